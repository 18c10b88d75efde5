#include "core/sampling/solvers/deis.h"

#include <algorithm>
#include <cmath>

namespace ldm::sampling {

namespace {

// The integral of (ln rho)^n is rho times 1, u - 1, u^2 - 2u + 2 for n = 0, 1, 2 and u = ln rho. others: the
// polynomial's zeros in ln rho.
double primitive(const Numbers& others, double rho) {
    double u = std::log(rho);
    if (others.size() == 0) return rho;
    if (others.size() == 1) return rho * (u - 1.0 - others[0]);
    return rho * (u * u - 2.0 * u + 2.0 - (others[0] + others[1]) * (u - 1.0) + others[0] * others[1]);
}

// Integrate the polynomial in ln rho that is 1 at nodes[chosen] and 0 at the others, from start to stop, exactly.
double rho_integral(const Nodes& nodes, std::size_t chosen, double start, double stop) {
    Numbers others;
    double scale = 1.0;
    for (std::size_t each = 0; each < nodes.size(); ++each) {
        if (each == chosen) continue;
        others.push(std::log(nodes[each].ratio()));
        scale *= std::log(nodes[chosen].ratio()) - others.back();
    }
    return (primitive(others, stop) - primitive(others, start)) / scale;
}

}  // namespace

Status solve_deis(Scope& scope, const Problem& problem, const DeisOptions& options, Rows& rows) {
    auto order = static_cast<std::size_t>(options.order);
    Levels levels(scope.memory);
    bool is_spacing = options.sigmas == Sigmas::of_spacing;
    LDM_TRY(dpm_levels(scope, problem, {options.sigmas, is_spacing ? Final::sigma_min : Final::last}, levels));
    bool few = options.lower_order_final && problem.steps < few_steps;
    rows.keep(order - 1);  // eps, the latest first
    for (std::size_t i = problem.start; i < problem.steps; ++i) {
        std::size_t used = std::min({order, 1 + i - problem.start, few ? problem.steps - i : order});
        const Level &now = levels[i], &after = levels[i + 1];
        Reading read = rows.read(now);
        Forms outputs = Forms{read.eps_of_x0()}.with(read.history);
        Nodes nodes = levels_before(levels, i, used);
        Numbers weights;
        for (std::size_t k = 0; k < used; ++k) weights.push(rho_integral(nodes, k, now.ratio(), after.ratio()));
        Form moved = weighted_sum(weights, outputs);
        LDM_TRY(rows.write(read, after, after.alpha * (read.x / now.alpha + moved), outputs.first(order - 1)));
    }
    return Status();
}

}  // namespace ldm::sampling
