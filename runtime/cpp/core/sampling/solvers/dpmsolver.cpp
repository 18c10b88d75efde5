#include "core/sampling/solvers/dpmsolver.h"

#include <algorithm>
#include <cmath>

#include "core/codes.h"

namespace ldm::sampling {

namespace {

// Whether the polynomial goes through x0; the other algorithms' through eps.
bool is_of_data(Algorithm algorithm) {
    return algorithm == Algorithm::dpmsolver_pp || algorithm == Algorithm::sde_dpmsolver_pp;
}

Form converted(Algorithm algorithm, const Reading& read) { return is_of_data(algorithm) ? read.x0 : read.eps_of_x0(); }

Status check_end(Scope& scope, std::string_view sampler, Algorithm algorithm, Final final) {
    if (is_of_data(algorithm) || final != Final::zero) return Status();
    return scope.fail(codes::request_sampler,
                      {"sampler ", quoted(sampler), ": ", algorithms[static_cast<int>(algorithm)],
                       " cannot end at zero noise; use it with final=sigma_min"});
}

// The order of a row of single-step: 1 to `order`, over and over. Where the last step would be incomplete or end at
// zero noise, it is lowered.
std::size_t order_of(std::size_t row, std::size_t steps, std::size_t order, bool lower_order_final, Final final) {
    std::size_t cycled = row % order + 1;
    bool is_last = row + 1 == steps;
    bool is_whole = steps % order == 0;
    bool lowers_last = is_whole && order > 1 && (lower_order_final || final == Final::zero);
    return is_last && (final == Final::zero || lowers_last) ? 1 : cycled;
}

// D0, D1, D2 at the latest of the nodes: derivatives of the polynomial, in units of h.
Forms derivatives_at_latest(const Forms& outputs, const Nodes& nodes, const Level& after) {
    if (outputs.size() == 1) return outputs;
    double h = after.log_snr() - nodes[0].log_snr();
    double r0 = (nodes[0].log_snr() - nodes[1].log_snr()) / h;
    Form first = (outputs[0] - outputs[1]) / r0;
    if (outputs.size() == 2) return {outputs[0], first};
    double r1 = (nodes[1].log_snr() - nodes[2].log_snr()) / h;
    Form before = (outputs[1] - outputs[2]) / r1;
    return {outputs[0], first + r0 / (r0 + r1) * (first - before), (first - before) / (r0 + r1)};
}

// The same at the earliest of the nodes, where the step began.
Forms derivatives_at_earliest(const Forms& outputs, const Nodes& nodes, const Level& after, SolverType solver_type) {
    if (outputs.size() == 1) return outputs;
    const Level& origin = nodes.back();
    double h = after.log_snr() - origin.log_snr();
    double r0 = (nodes[0].log_snr() - origin.log_snr()) / h;
    Form latest = (outputs[0] - outputs.back()) / r0;
    if (outputs.size() == 2 || solver_type == SolverType::midpoint) return {outputs.back(), latest};
    double r1 = (nodes[1].log_snr() - origin.log_snr()) / h;
    Form middle = (outputs[1] - outputs[2]) / r1;
    return {outputs[2], (r0 * middle - r1 * latest) / (r0 - r1), 2.0 * (latest - middle) / (r0 - r1)};
}

// The exact solution between two levels for a model that is D0 + D1 (lambda - lambda_now) / h + … on the way.
//
// It is x' = keep * x - scale * (growth * D0 + …), and noise of `deviation` for an SDE; growth is exp(±h) - 1, or
// exp(-2h) - 1. half: what the weight of D2 subtracts.
struct ExactStep {
    double keep, scale, growth;
    double deviation = 0.0;
    double half = 0.5;

    // x' from x; heun weighs D1 by its exact integral, midpoint by growth / 2.
    Form solve(const Form& x, const Forms& derivatives, SolverType solver_type) const {
        Form next = keep * x - scale * growth * derivatives[0];
        double h = std::log1p(growth);
        if (derivatives.size() > 1) {
            double weight = solver_type == SolverType::midpoint ? 0.5 * growth : growth / h - 1.0;
            next -= scale * weight * derivatives[1];
        }
        if (derivatives.size() > 2) next -= scale * ((growth - h) / (h * h) - half) * derivatives[2];
        return next;
    }
};

// half of the SDE is that of diffusers; its paper stops at order 2.
ExactStep exact_step(Algorithm algorithm, const Level& now, const Level& after) {
    double shrink = after.ratio() / now.ratio();  // exp(-h)
    double keep_sigma = after.sigma / now.sigma, keep_alpha = after.alpha / now.alpha;
    switch (algorithm) {
        case Algorithm::dpmsolver_pp: return {keep_sigma, after.alpha, shrink - 1.0};
        case Algorithm::dpmsolver: return {keep_alpha, after.sigma, 1.0 / shrink - 1.0};
        case Algorithm::sde_dpmsolver_pp:
            return {keep_sigma * shrink, after.alpha, shrink * shrink - 1.0,
                    after.sigma * std::sqrt(1.0 - shrink * shrink), -0.5};
        case Algorithm::sde_dpmsolver: break;
    }
    return {keep_alpha, after.sigma * 2.0, 1.0 / shrink - 1.0, after.sigma * std::sqrt(1.0 / (shrink * shrink) - 1.0),
            -0.5};
}

}  // namespace

Status solve_multistep(Scope& scope, const Problem& problem, const DpmSolverOptions& options, Rows& rows) {
    auto order = static_cast<std::size_t>(options.order);
    LDM_TRY(check_end(scope, "dpmsolver", options.algorithm, options.final));
    if (options.algorithm == Algorithm::sde_dpmsolver && order == 3) {
        return scope.fail(codes::request_sampler,
                          {"sampler 'dpmsolver': sde-dpmsolver has no order 3; use order 1 or 2, or sde-dpmsolver++"});
    }
    bool is_rounded = problem.schedule.beta_schedule != BetaSchedule::squaredcos_cap_v2;
    Levels levels(scope.memory);
    LDM_TRY(dpm_levels(scope, problem, {options.sigmas, options.final, options.lambda_min, is_rounded, is_rounded},
                       levels));
    bool few = options.lower_order_final && problem.steps < few_steps;
    rows.keep(order - 1);  // converted outputs, the latest first
    for (std::size_t i = problem.start; i < problem.steps; ++i) {
        const Level &now = levels[i], &after = levels[i + 1];
        std::size_t left = problem.steps - i, used = std::min(order, 1 + i - problem.start);
        if (left == 1 && (options.euler_at_final || few || options.final == Final::zero)) {
            used = 1;
        } else if (left == 2 && few) {
            used = std::min(used, std::size_t{2});
        }
        if (after.ratio() == now.ratio()) used = 1;  // a last step that goes nowhere
        Reading read = rows.read(now);
        Forms outputs = Forms{converted(options.algorithm, read)}.with(read.history);
        Forms derivatives = derivatives_at_latest(outputs.first(used), levels_before(levels, i, used), after);
        ExactStep step = exact_step(options.algorithm, now, after);
        Form x = step.solve(read.x, derivatives, used == 3 ? SolverType::heun : options.solver_type);
        LDM_TRY(rows.write(read, after, x + step.deviation * rows.noise(), outputs.first(order - 1)));
    }
    return Status();
}

Status solve_singlestep(Scope& scope, const Problem& problem, const SinglestepOptions& options, Rows& rows) {
    auto order = static_cast<std::size_t>(options.order);
    LDM_TRY(check_end(scope, "dpmsolver_singlestep", options.algorithm, options.final));
    Levels levels(scope.memory);
    LDM_TRY(dpm_levels(scope, problem, {options.sigmas, options.final, options.lambda_min}, levels));
    rows.keep(order);  // converted outputs, the latest first, and x where the step began
    for (std::size_t i = problem.start; i < problem.steps; ++i) {
        std::size_t wanted = order_of(i, problem.steps, order, options.lower_order_final, options.final);
        std::size_t used = std::min(wanted, 1 + i - problem.start);
        Reading read = rows.read(levels[i]);
        Forms outputs = Forms{converted(options.algorithm, read)}.with(read.history, order - 1);
        Form begun = used == 1 ? read.x : read.history[order - 1];
        Nodes nodes = levels_before(levels, i, used);
        Forms derivatives = derivatives_at_earliest(outputs.first(used), nodes, levels[i + 1], options.solver_type);
        ExactStep step = exact_step(options.algorithm, nodes.back(), levels[i + 1]);
        Form x = step.solve(begun, derivatives, used == 3 ? SolverType::heun : options.solver_type);
        Forms kept = outputs.first(order - 1).with({begun});
        LDM_TRY(rows.write(read, levels[i + 1], x + step.deviation * rows.noise(), kept));
    }
    return Status();
}

}  // namespace ldm::sampling
