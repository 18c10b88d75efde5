// DPM-Solver and DPM-Solver++ (arXiv:2206.00927, arXiv:2211.01095), multistep and single-step, as ODE and as SDE.
//
// They solve the semilinear ODE exactly but for the model, which stands in the integral as a polynomial in
// lambda = ln(alpha / sigma). With h = lambda' - lambda, exp(-h) = ratio' / ratio, which is fine at sigma' = 0 too.
#ifndef LDM_CORE_SAMPLING_SOLVERS_DPMSOLVER_H
#define LDM_CORE_SAMPLING_SOLVERS_DPMSOLVER_H

#include "core/sampling/solvers/options.h"
#include "core/sampling/solvers/problem.h"

namespace ldm::sampling {

enum class Algorithm : int { dpmsolver_pp, dpmsolver, sde_dpmsolver_pp, sde_dpmsolver };
inline constexpr std::string_view algorithms[] = {"dpmsolver++", "dpmsolver", "sde-dpmsolver++", "sde-dpmsolver"};
inline constexpr std::string_view singlestep_algorithms[] = {"dpmsolver++", "dpmsolver", "sde-dpmsolver++"};

enum class SolverType : int { midpoint, heun };
inline constexpr std::string_view solver_types[] = {"midpoint", "heun"};

struct DpmSolverOptions : ThresholdOptions {
    int order = 2;
    Algorithm algorithm = Algorithm::dpmsolver_pp;
    SolverType solver_type = SolverType::midpoint;
    Sigmas sigmas = Sigmas::of_spacing;
    Final final = Final::zero;
    bool lower_order_final = true;
    bool euler_at_final = false;
    double lambda_min = -infinity;

    void list(OptionList& options) {
        ThresholdOptions::list(options);
        options.add("order", order, 1, 3);
        options.add("algorithm", algorithm, algorithms);
        options.add("solver_type", solver_type, solver_types);
        options.add("sigmas", sigmas, dpm_sigmas);
        options.add("final", final, finals);
        options.add("lower_order_final", lower_order_final);
        options.add("euler_at_final", euler_at_final);
        options.add("lambda_min", lambda_min, -infinity, most_lambda_min);
    }
};

struct SinglestepOptions : ThresholdOptions {
    int order = 2;
    Algorithm algorithm = Algorithm::dpmsolver_pp;
    SolverType solver_type = SolverType::midpoint;
    Sigmas sigmas = Sigmas::of_spacing;
    Final final = Final::zero;
    bool lower_order_final = false;
    double lambda_min = -infinity;

    void list(OptionList& options) {
        ThresholdOptions::list(options);
        options.add("order", order, 1, 3);
        options.add("algorithm", algorithm, singlestep_algorithms);
        options.add("solver_type", solver_type, solver_types);
        options.add("sigmas", sigmas, k_sigmas);
        options.add("final", final, finals);
        options.add("lower_order_final", lower_order_final);
        options.add("lambda_min", lambda_min, -infinity, most_lambda_min);
    }
};

// Use the outputs of the rows before; the first rows, and by its options the last ones, have a lower order.
Status solve_multistep(Scope& scope, const Problem& problem, const DpmSolverOptions& options, Rows& rows);

// Take steps of 1, 2 or 3 rows, each from where the step began. The spacing is always linspace.
Status solve_singlestep(Scope& scope, const Problem& problem, const SinglestepOptions& options, Rows& rows);

}  // namespace ldm::sampling

#endif
