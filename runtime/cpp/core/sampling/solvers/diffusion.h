// Solvers of the discrete diffusion process: DDPM, DDIM, and the few-step samplers of distilled models, LCM and TCD.
//
// They walk training timesteps in the variance-preserving scaling, one model evaluation for each step.
#ifndef LDM_CORE_SAMPLING_SOLVERS_DIFFUSION_H
#define LDM_CORE_SAMPLING_SOLVERS_DIFFUSION_H

#include "core/sampling/solvers/options.h"
#include "core/sampling/solvers/problem.h"

namespace ldm::sampling {

enum class Variance : int { fixed_small, fixed_large };
inline constexpr std::string_view variances[] = {"fixed_small", "fixed_large"};
inline constexpr int most_original_steps = 100'000;  // of the solver that a model was distilled from

struct DdpmOptions : ThresholdOptions, ClipOptions {
    Variance variance = Variance::fixed_small;

    void list(OptionList& options) {
        ClipOptions::list(options);
        ThresholdOptions::list(options);
        options.add("variance", variance, variances);
    }
};

struct DdimOptions : ThresholdOptions, ClipOptions {
    double eta = 0.0;

    void list(OptionList& options) {
        ClipOptions::list(options);
        ThresholdOptions::list(options);
        options.add("eta", eta, 0.0, 1.0);
    }
};

// reach: the share of the original timesteps, from the cleanest up, on which the steps are spread. A strength sets it,
// as in diffusers' `LatentConsistencyModelImg2ImgPipeline`. 0: all of them, and a strength leaves out steps.
struct LcmOptions : ThresholdOptions, ClipOptions {
    int original_steps = 50;
    double reach = 0.0;
    double timestep_scaling = 10.0;

    void list(OptionList& options) {
        ClipOptions::list(options);
        ThresholdOptions::list(options);
        options.add("original_steps", original_steps, 1, most_original_steps);
        options.add("reach", reach, 0.0, 1.0);
        options.add("timestep_scaling", timestep_scaling, 0.0, 1e6);
    }
};

struct TcdOptions {
    double eta = 0.0;  // as diffusers' pipelines pass it; their scheduler alone has 0.3
    int original_steps = 50;

    void list(OptionList& options) {
        options.add("eta", eta, 0.0, 1.0);
        options.add("original_steps", original_steps, 1, most_original_steps);
    }
};

// Sample the posterior of the forward process (arXiv:2006.11239, equations 6 and 7), at any of the timesteps.
Status solve_ddpm(Scope& scope, const Problem& problem, const DdpmOptions& options, Rows& rows);

// Follow equation 12 of arXiv:2010.02502. After t comes t - (training steps / steps), not the next row's.
Status solve_ddim(Scope& scope, const Problem& problem, const DdimOptions& options, Rows& rows);

// Sample a latent consistency model in several steps (arXiv:2310.04378, algorithm 3).
Status solve_lcm(Scope& scope, const Problem& problem, const LcmOptions& options, Rows& rows);

// Sample a trajectory consistency model with strategic noise (arXiv:2402.19159, algorithm 4).
Status solve_tcd(Scope& scope, const Problem& problem, const TcdOptions& options, Rows& rows);

}  // namespace ldm::sampling

#endif
