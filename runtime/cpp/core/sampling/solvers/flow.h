// Euler's method on the straight paths of rectified flow (arXiv:2403.03206), as FlowMatchEulerDiscreteScheduler.
#ifndef LDM_CORE_SAMPLING_SOLVERS_FLOW_H
#define LDM_CORE_SAMPLING_SOLVERS_FLOW_H

#include "core/sampling/solvers/options.h"
#include "core/sampling/solvers/problem.h"

namespace ldm::sampling {

struct FlowEulerOptions {
    Sigmas sigmas = Sigmas::of_spacing;
    bool stochastic = false;

    void list(OptionList& options) {
        options.add("sigmas", sigmas, k_sigmas);
        options.add("stochastic", stochastic);
    }
};

// Step by x' = x + (s' - s) * (eps - x0); if stochastic, to the predicted image with fresh noise of level s'.
Status solve_flow_euler(Scope& scope, const Problem& problem, const FlowEulerOptions& options, Rows& rows);

}  // namespace ldm::sampling

#endif
