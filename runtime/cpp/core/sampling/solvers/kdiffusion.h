// Solvers of k-diffusion, in the scaling x = x0 + s * eps: Euler, Heun, DPM2, DPM++ SDE, LMS and ancestral ones.
//
// Sources: Karras et al. 2022 (arXiv:2206.00364), and the k-diffusion library that named these samplers. The slope of
// the probability-flow ODE is (x - x0) / s; a step along it from s to s' is x' = (s'/s) x + (1 - s'/s) x0.
#ifndef LDM_CORE_SAMPLING_SOLVERS_KDIFFUSION_H
#define LDM_CORE_SAMPLING_SOLVERS_KDIFFUSION_H

#include "core/sampling/solvers/options.h"
#include "core/sampling/solvers/problem.h"

namespace ldm::sampling {

struct SigmaOptions {
    Sigmas sigmas = Sigmas::of_spacing;

    void list(OptionList& options) { options.add("sigmas", sigmas, k_sigmas); }
};

// A sigma_min or sigma_max of 0 stands for the first or last level of the spacing.
struct EulerOptions : SigmaOptions {
    Final final = Final::zero;
    double sigma_min = 0.0;
    double sigma_max = 0.0;

    void list(OptionList& options) {
        SigmaOptions::list(options);
        options.add("final", final, finals);
        options.add("sigma_min", sigma_min, 0.0, 1e6);
        options.add("sigma_max", sigma_max, 0.0, 1e6);
    }
};

struct HeunOptions : SigmaOptions, ClipOptions {
    void list(OptionList& options) {
        ClipOptions::list(options);
        SigmaOptions::list(options);
    }
};

// Take Euler's steps.
Status solve_euler(Scope& scope, const Problem& problem, const EulerOptions& options, Rows& rows);

// Step by Euler below the next noise level, then add fresh noise up to it; the last row adds none.
Status solve_euler_ancestral(Scope& scope, const Problem& problem, const NoOptions& options, Rows& rows);

// Step by Euler, then once more with the mean of both ends' slopes; the last step is Euler's.
Status solve_heun(Scope& scope, const Problem& problem, const HeunOptions& options, Rows& rows);

// Step with the slope half way along ln s (DPM-Solver-2 as Karras et al. write it); the last step is Euler's.
Status solve_dpm2(Scope& scope, const Problem& problem, const SigmaOptions& options, Rows& rows);

// Step by DPM2 below the next noise level, then add fresh noise up to it.
Status solve_dpm2_ancestral(Scope& scope, const Problem& problem, const SigmaOptions& options, Rows& rows);

// Take DPM-Solver++ SDE steps with a row half way (k-diffusion's sample_dpmpp_sde, eta 1, r 1/2).
//
// Both rows of a step walk along one Brownian path in s. Its way to the middle is one stream of noise, its way on from
// there another; the second row needs the whole way and so reads both.
Status solve_dpmpp_sde(Scope& scope, const Problem& problem, const SigmaOptions& options, Rows& rows);

// Integrate the polynomial through the last slopes (Adams-Bashforth on uneven levels).
Status solve_lms(Scope& scope, const Problem& problem, const SigmaOptions& options, Rows& rows);

}  // namespace ldm::sampling

#endif
