#include "core/sampling/solvers/flow.h"

#include "core/codes.h"

namespace ldm::sampling {

namespace {

// Stretch falling sigmas towards the noise, so that the last one is `terminal`.
Status stretch(Scope& scope, double terminal, Array<double>& sigmas) {
    if (sigmas.back() >= 1.0) {
        return scope.fail(codes::request_sampler,
                          {"one step of a flow with shift_terminal never reaches it; use 2 steps or more"});
    }
    double scale = (1.0 - sigmas.back()) / (1.0 - terminal);
    for (double& sigma : sigmas) sigma = 1.0 - (1.0 - sigma) / scale;
    return Status();
}

// Falling sigmas, one a step: even, shifted towards noise, stretched to the terminal one, then spread.
Status flow_sigmas(Scope& scope, const Problem& problem, Sigmas kind, Array<double>& out) {
    const FlowSchedule& flow = problem.flow;
    auto count = static_cast<double>(flow.num_train_timesteps);
    auto shifted = [&](double sigma) { return flow.shift * sigma / (1.0 + (flow.shift - 1.0) * sigma); };
    for (std::size_t i = 0; i < problem.steps; ++i) {
        LDM_NEED(scope, out.push(shifted(linspace(1.0, shifted(1.0 / count), problem.steps, i))));
    }
    if (flow.shift_terminal.value_or(0.0) != 0.0) LDM_TRY(stretch(scope, *flow.shift_terminal, out));
    if (kind != Sigmas::of_spacing) {
        double high = out[0], low = out.back();
        out.shrink(0);
        LDM_TRY(spread(scope, kind, high, low, problem.steps, out));
    }
    Array<double> timesteps(scope.memory);
    for (double sigma : out) LDM_NEED(scope, timesteps.push(sigma * count));
    return check_falling(scope, timesteps.view(), out.view(), 0.0);
}

}  // namespace

Status solve_flow_euler(Scope& scope, const Problem& problem, const FlowEulerOptions& options, Rows& rows) {
    Array<double> sigmas(scope.memory);
    LDM_TRY(flow_sigmas(scope, problem, options.sigmas, sigmas));
    LDM_NEED(scope, sigmas.push(0.0));
    auto count = static_cast<double>(problem.flow.num_train_timesteps);
    auto level = [&](std::size_t i) { return Level{sigmas[i] * count, 1.0 - sigmas[i], sigmas[i]}; };
    for (std::size_t i = problem.start; i < problem.steps; ++i) {
        Level now = level(i), after = level(i + 1);
        Reading read = rows.read(now);
        Form x = options.stochastic ? after.alpha * read.x0 + after.sigma * rows.noise()
                                    : read.x + (after.sigma - now.sigma) * read.output;
        LDM_TRY(rows.write(read, after, x));
    }
    return Status();
}

}  // namespace ldm::sampling
