// UniPC (arXiv:2302.04867), checked against diffusers' UniPCMultistepScheduler.
#ifndef LDM_CORE_SAMPLING_SOLVERS_UNIPC_H
#define LDM_CORE_SAMPLING_SOLVERS_UNIPC_H

#include "core/sampling/solvers/options.h"
#include "core/sampling/solvers/problem.h"

namespace ldm::sampling {

enum class UniPcType : int { bh2, bh1 };
inline constexpr std::string_view unipc_types[] = {"bh2", "bh1"};

enum class Predict : int { x0, eps };  // what the polynomial goes through
inline constexpr std::string_view predicts[] = {"x0", "eps"};

struct UniPcOptions : ThresholdOptions {
    int order = 2;
    UniPcType solver_type = UniPcType::bh2;
    Predict predict = Predict::x0;
    Sigmas sigmas = Sigmas::of_spacing;
    Final final = Final::zero;
    bool lower_order_final = true;

    void list(OptionList& options) {
        ThresholdOptions::list(options);
        options.add("order", order, 1, 4);
        options.add("solver_type", solver_type, unipc_types);
        options.add("predict", predict, predicts);
        options.add("sigmas", sigmas, k_sigmas);
        options.add("final", final, finals);
        options.add("lower_order_final", lower_order_final);
    }
};

// Correct the step before each row with its new output, then predict the next.
Status solve_unipc(Scope& scope, const Problem& problem, const UniPcOptions& options, Rows& rows);

}  // namespace ldm::sampling

#endif
