// SA-Solver (arXiv:2309.05019), checked against diffusers' SASolverScheduler.
#ifndef LDM_CORE_SAMPLING_SOLVERS_SA_SOLVER_H
#define LDM_CORE_SAMPLING_SOLVERS_SA_SOLVER_H

#include "core/sampling/solvers/options.h"
#include "core/sampling/solvers/problem.h"
#include "core/sampling/solvers/unipc.h"

namespace ldm::sampling {

struct SaSolverOptions : ThresholdOptions {
    int order = 2;
    int corrector_order = 2;
    Predict predict = Predict::x0;
    double tau = 1.0;
    Sigmas sigmas = Sigmas::of_spacing;
    bool lower_order_final = true;
    double lambda_min = -infinity;

    void list(OptionList& options) {
        ThresholdOptions::list(options);
        options.add("order", order, 1, 4);
        options.add("corrector_order", corrector_order, 1, 4);
        options.add("predict", predict, predicts);
        options.add("tau", tau, 0.0, 10.0);
        options.add("sigmas", sigmas, k_sigmas);
        options.add("lower_order_final", lower_order_final);
        options.add("lambda_min", lambda_min, -infinity, most_lambda_min);
    }
};

// Take stochastic Adams steps: correct the one before each row with its new output, then predict the next.
Status solve_sa(Scope& scope, const Problem& problem, const SaSolverOptions& options, Rows& rows);

}  // namespace ldm::sampling

#endif
