// Pseudo numerical methods (arXiv:2202.09778), checked against diffusers' PNDMScheduler.
#ifndef LDM_CORE_SAMPLING_SOLVERS_PNDM_H
#define LDM_CORE_SAMPLING_SOLVERS_PNDM_H

#include "core/sampling/solvers/options.h"
#include "core/sampling/solvers/problem.h"

namespace ldm::sampling {

struct PndmOptions {
    bool skip_prk_steps = false;

    void list(OptionList& options) { options.add("skip_prk_steps", skip_prk_steps); }
};

// Take Adams-Bashforth steps on eps, begun by Runge-Kutta steps or by one step that is repeated.
Status solve_pndm(Scope& scope, const Problem& problem, const PndmOptions& options, Rows& rows);

}  // namespace ldm::sampling

#endif
