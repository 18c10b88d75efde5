// DEIS (arXiv:2204.13902), checked against diffusers' DEISMultistepScheduler.
#ifndef LDM_CORE_SAMPLING_SOLVERS_DEIS_H
#define LDM_CORE_SAMPLING_SOLVERS_DEIS_H

#include "core/sampling/solvers/options.h"
#include "core/sampling/solvers/problem.h"

namespace ldm::sampling {

struct DeisOptions : ThresholdOptions {
    int order = 2;
    Sigmas sigmas = Sigmas::of_spacing;
    bool lower_order_final = true;

    void list(OptionList& options) {
        ThresholdOptions::list(options);
        options.add("order", order, 1, 3);
        options.add("sigmas", sigmas, k_sigmas);
        options.add("lower_order_final", lower_order_final);
    }
};

// Integrate the polynomial of eps in ln rho, rho = sigma / alpha, over rho (DEIS-rhoAB).
Status solve_deis(Scope& scope, const Problem& problem, const DeisOptions& options, Rows& rows);

}  // namespace ldm::sampling

#endif
