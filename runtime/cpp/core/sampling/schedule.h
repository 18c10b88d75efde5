// The noise schedule that a model was trained with: the twin of ldm_runtime.sampling.schedule.
//
// A schedule holds what belongs to the model; the package's defaults or the user choose which sampler walks it.
#ifndef LDM_CORE_SAMPLING_SCHEDULE_H
#define LDM_CORE_SAMPLING_SCHEDULE_H

#include <cstdint>
#include <optional>
#include <string_view>

#include "core/json/fields.h"
#include "core/memory.h"
#include "core/status.h"

namespace ldm::sampling {

enum class BetaSchedule { linear, scaled_linear, squaredcos_cap_v2 };
enum class Prediction { epsilon, v_prediction, sample, flow_prediction };
enum class Spacing { leading, linspace, trailing };

std::string_view name_of(BetaSchedule value);
std::string_view name_of(Prediction value);
std::string_view name_of(Spacing value);

// Field names are those of diffusers' scheduler configurations. No spacing means "each sampler's own".
struct NoiseSchedule {
    std::int64_t num_train_timesteps = 0;
    double beta_start = 0.0;
    double beta_end = 0.0;
    BetaSchedule beta_schedule = BetaSchedule::linear;
    Prediction prediction_type = Prediction::epsilon;
    std::optional<Spacing> timestep_spacing;
    std::int64_t steps_offset = 0;
    bool set_alpha_to_one = false;
    bool rescale_betas_zero_snr = false;
};

// The straight paths of rectified flow: x = (1 - s) * x0 + s * eps, and the model predicts eps - x0.
//
// The model is told s * num_train_timesteps. shift (of the sigmas, arXiv:2403.03206, equation 23) is 1 for none;
// shift_terminal stretches them so that the last is that value.
struct FlowSchedule {
    std::int64_t num_train_timesteps = 0;
    double shift = 1.0;
    std::optional<double> shift_terminal;
};

// One of the two.
struct Schedule {
    bool is_flow = false;
    NoiseSchedule noise;
    FlowSchedule flow;

    std::int64_t num_train_timesteps() const { return is_flow ? flow.num_train_timesteps : noise.num_train_timesteps; }
    Prediction prediction_type() const { return is_flow ? Prediction::flow_prediction : noise.prediction_type; }
};

// Read a schedule, which of the two by its keys. schedule.invalid for a value out of its range, beside the codes of
// json::read.
Status read(json::Reader& reader, const json::Value& value, const json::Where& where, Schedule& out);
Status plain(json::Reader& reader, const Schedule& schedule, json::Value& out);

// The product of 1 - beta up to each timestep: (num_train_timesteps,), decreasing. With rescale_betas_zero_snr the last
// is exactly 0 (Lin et al. 2023, arXiv:2305.08891, algorithm 1).
Status alphas_cumprod(Scope& scope, const NoiseSchedule& schedule, Array<double>& out);

}  // namespace ldm::sampling

#endif
