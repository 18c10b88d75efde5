// The plan that a solver is asked for, and the two ways in which the solvers of diffusers choose noise levels.
#ifndef LDM_CORE_SAMPLING_SOLVERS_PROBLEM_H
#define LDM_CORE_SAMPLING_SOLVERS_PROBLEM_H

#include <cstddef>
#include <string_view>

#include "core/memory.h"
#include "core/sampling/schedule.h"
#include "core/sampling/solvers/levels.h"
#include "core/sampling/solvers/rows.h"
#include "core/status.h"

namespace ldm::sampling {

inline constexpr std::size_t few_steps = 15;  // below this many, lower_order_final lowers the order of the last steps
inline constexpr double most_lambda_min = 100.0;

enum class Final : int { zero, sigma_min, last };  // last: a schedule's own last level once more
inline constexpr std::string_view finals[] = {"zero", "sigma_min"};

// start: the first step that is taken (above 0 for image to image only). hooked: whether the loop clips x0.
struct Problem {
    const NoiseSchedule& schedule;  // for solvers of diffusion models
    const FlowSchedule& flow;       // for solvers of flow models
    Spacing spacing;
    std::size_t steps, start;
    bool hooked;
    View<double> bars;      // alphas_cumprod at every training timestep
    View<double> training;  // sigma / alpha there

    double bar_at(double timestep) const { return bars[static_cast<std::size_t>(timestep)]; }
    // alphas_cumprod at a timestep, where those below 0 mean full signal, or that of the first timestep.
    double bar_before(double timestep) const {
        if (timestep >= 0.0) return timestep < static_cast<double>(bars.size) ? bar_at(timestep) : no_timestep;
        return schedule.set_alpha_to_one ? 1.0 : bars[0];
    }
    // A level between the trained ones, with its timestep, a fraction.
    Level level_at(double ratio) const { return level_of_ratio(timestep_of(ratio, training), ratio); }
};

// How k-diffusion's solvers choose levels: one for every step, and a final one.
//
// Sigma schedules reach from sigma_max to sigma_min, where these are 0 from the first to the last level of the spacing.
// karras_integers: Karras levels tell the model whole timesteps. float64_timesteps: those of linspace are not rounded
// to float32.
struct KLevels {
    Sigmas sigmas = Sigmas::of_spacing;
    Final final = Final::zero;
    double sigma_min = 0.0, sigma_max = 0.0;
    bool karras_integers = false;
    bool float64_timesteps = false;
};

Status k_levels(Scope& scope, const Problem& problem, const KLevels& chosen, Levels& out);

// The standard deviation of the first x: sigma alone for spacings that start at the last timestep.
double k_initial_scale(const Problem& problem, const Levels& levels);

// How DPM-Solver and its kin choose levels: whole timesteps, sigma schedules over all trained levels.
//
// Timesteps of sigma schedules are rounded where a flag says so and cut where not; those of ays are always rounded.
// lambda_min: without a sigma schedule, the noisiest level is that of this ln(alpha / sigma) at most.
struct DpmLevels {
    Sigmas sigmas = Sigmas::of_spacing;
    Final final = Final::zero;
    double lambda_min = -infinity;
    bool rounds_karras = true, rounds_lu = false;
};

Status dpm_levels(Scope& scope, const Problem& problem, const DpmLevels& chosen, Levels& out);

}  // namespace ldm::sampling

#endif
