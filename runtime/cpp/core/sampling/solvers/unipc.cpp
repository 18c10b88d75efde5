#include "core/sampling/solvers/unipc.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "core/codes.h"

namespace ldm::sampling {

namespace {

constexpr std::size_t most_order = 4;

Status check(Scope& scope, const UniPcOptions& options) {
    if (options.final != Final::zero) return Status();
    if (options.predict == Predict::eps) {
        return scope.fail(codes::request_sampler,
                          {"sampler 'unipc': predict=eps cannot end at zero noise; use it with final=sigma_min"});
    }
    if (options.order > 1 && !options.lower_order_final) {
        return scope.fail(codes::request_sampler, {"sampler 'unipc': order ", options.order,
                          " cannot end at zero noise; use final=sigma_min or lower_order_final=true"});
    }
    return Status();
}

// Solve a system of up to four equations by Gauss's elimination with the largest pivot of each column.
Numbers solve_linear(double (&matrix)[most_order][most_order], Numbers right) {
    std::size_t count = right.size();
    for (std::size_t column = 0; column < count; ++column) {
        std::size_t pivot = column;
        for (std::size_t row = column + 1; row < count; ++row) {
            if (std::fabs(matrix[row][column]) > std::fabs(matrix[pivot][column])) pivot = row;
        }
        std::swap(matrix[column], matrix[pivot]);
        std::swap(right[column], right[pivot]);
        for (std::size_t row = column + 1; row < count; ++row) {
            double factor = matrix[row][column] / matrix[column][column];
            for (std::size_t each = column; each < count; ++each) matrix[row][each] -= factor * matrix[column][each];
            right[row] -= factor * right[column];
        }
    }
    for (std::size_t row = count; row-- > 0;) {
        for (std::size_t each = row + 1; each < count; ++each) right[row] -= matrix[row][each] * right[each];
        right[row] /= matrix[row][row];
    }
    return right;
}

// Solve sum_k steps_k^(i-1) w_k = i! phi_(i+1)(hh) hh / B(h), i = 1 … n, in the notation of section 3.2.
Numbers weights_of(double hh, double growth, double b_h, const Numbers& steps) {
    Numbers right;
    double matrix[most_order][most_order] = {};
    double phi = growth / hh - 1.0, factorial = 1.0;
    for (std::size_t power = 0; power < steps.size(); ++power) {
        for (std::size_t each = 0; each < steps.size(); ++each) {
            matrix[power][each] = std::pow(steps[each], static_cast<int>(power));
        }
        right.push(phi * factorial / b_h);
        factorial *= static_cast<double>(power + 2);
        phi = phi / hh - 1.0 / factorial;
    }
    return solve_linear(matrix, right);
}

// Predict x at `after` (UniP, equation 9), or correct it where the output there, `latest`, is known (UniC, 3).
Form step(const UniPcOptions& options, const Nodes& nodes, const Level& after, const Form& x, const Forms& outputs,
          const Form* latest) {
    const Level& now = nodes[0];
    std::size_t order = nodes.size();
    bool is_data = options.predict == Predict::x0;
    double h = after.log_snr() - now.log_snr();
    double hh = is_data ? -h : h;
    double growth = (is_data ? after.ratio() / now.ratio() : now.ratio() / after.ratio()) - 1.0;  // exp(hh) - 1
    double scale = is_data ? after.alpha : after.sigma;
    double keep = is_data ? after.sigma / now.sigma : after.alpha / now.alpha;
    Form moved = keep * x - scale * growth * outputs[0];
    if (order == 1 && latest == nullptr) return moved;
    double b_h = options.solver_type == UniPcType::bh1 ? hh : growth;
    Numbers steps;
    Forms slopes;
    for (std::size_t k = 1; k < order; ++k) {
        steps.push((nodes[k].log_snr() - now.log_snr()) / h);
        slopes.push((outputs[k] - outputs[0]) / steps.back());
    }
    if (latest != nullptr) {
        steps.push(1.0);
        slopes.push(*latest - outputs[0]);
    }
    bool is_half = latest == nullptr ? order == 2 : order == 1;
    Numbers weights = is_half ? Numbers{0.5} : weights_of(hh, growth, b_h, steps);
    return moved - scale * b_h * weighted_sum(weights, slopes);
}

}  // namespace

Status solve_unipc(Scope& scope, const Problem& problem, const UniPcOptions& options, Rows& rows) {
    LDM_TRY(check(scope, options));
    auto order = static_cast<std::size_t>(options.order);
    bool is_last = options.final != Final::zero && options.sigmas != Sigmas::of_spacing;
    Levels levels(scope.memory);
    LDM_TRY(dpm_levels(scope, problem, {options.sigmas, is_last ? Final::last : options.final}, levels));
    rows.keep(order + 1);  // converted outputs, the latest first, and x before the last prediction
    std::size_t before = 0;  // order of the last prediction
    for (std::size_t i = problem.start; i < problem.steps; ++i) {
        const Level &now = levels[i], &after = levels[i + 1];
        Reading read = rows.read(now);
        Form output = options.predict == Predict::x0 ? read.x0 : read.eps, x = read.x;
        Forms past = read.history.first(order);
        if (i > problem.start) {
            x = step(options, levels_before(levels, i - 1, before), now, read.history[order], past, &output);
        }
        std::size_t most = options.lower_order_final ? std::min(order, problem.steps - i) : order;
        before = std::min(most, 1 + i - problem.start);
        if (after.ratio() == now.ratio()) before = 1;  // a last step that goes nowhere
        Forms outputs = Forms{output}.with(past);
        Form next = step(options, levels_before(levels, i, before), after, x, outputs, nullptr);
        LDM_TRY(rows.write(read, after, next, outputs.first(order).with({x})));
    }
    return Status();
}

}  // namespace ldm::sampling
