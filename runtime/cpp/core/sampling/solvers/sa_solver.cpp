#include "core/sampling/solvers/sa_solver.h"

#include <algorithm>
#include <cmath>

#include "core/codes.h"
#include "core/sampling/solvers/lagrange.h"

namespace ldm::sampling {

namespace {

constexpr double first_noisy_timestep = 200.0, last_noisy_timestep = 800.0;  // as diffusers chose

// u^n + sign n u^(n-1) + sign^2 n (n-1) u^(n-2) + … for n = power.
double signed_factorial_sum(int power, double u, double sign) {
    double value = 0.0, factor = 1.0;
    for (int k = 0; k <= power; ++k) {
        value += factor * std::pow(u, power - k);
        factor *= sign * (power - k);
    }
    return value;
}

// Integrate each node's Lagrange polynomial in lambda; integral: of a power of lambda.
template <typename Integral>
Numbers weights_of(const Nodes& nodes, Integral integral) {
    Numbers lambdas, weights;
    for (const Level& node : nodes) lambdas.push(node.log_snr());
    for (std::size_t chosen = 0; chosen < nodes.size(); ++chosen) {
        Numbers polynomial = lagrange(lambdas, chosen);
        double sum = 0.0;
        for (auto power = static_cast<int>(polynomial.size()); power-- > 0;) {  // from the highest power down
            sum += polynomial[static_cast<std::size_t>(power)] * integral(power);
        }
        weights.push(sum);
    }
    return weights;
}

// Integrate the nodes' polynomials times exp(rate lambda) from `now` to `after`. is_correcting: the first of the nodes
// is `after`.
Numbers data_weights(const Level& now, const Level& after, const Nodes& nodes, double rate, bool is_correcting) {
    double start = now.log_snr(), stop = after.log_snr();
    // of lambda^power exp(rate lambda): d/du of e^u (u^n - n u^(n-1) + …) is u^n e^u, u = rate lambda
    auto integral = [=](int power) {
        double scale = std::pow(rate, power + 1);
        double lower = signed_factorial_sum(power, rate * start, -1.0) / scale;
        double upper = signed_factorial_sum(power, rate * stop, -1.0) / scale;
        return std::exp(rate * stop) * (upper - lower * std::exp(-rate * (stop - start)));
    };
    Numbers weights = weights_of(nodes, integral);
    if (nodes.size() == 2) {
        // The published code's change of the order-2 weights, which keeps the local error of the SDE small
        double h = stop - start;
        double curve = (h * rate - 1.0 + std::exp(-rate * h)) / (rate * rate);
        double change = is_correcting ? h / 2.0 - curve / h : (h * h / 2.0 - curve) / (start - nodes[1].log_snr());
        change *= std::exp(rate * stop);
        weights = {weights[0] + change, weights[1] - change};
    }
    return weights;
}

// Integrate the nodes' polynomials times exp(-lambda) from `now` to `after`.
Numbers noise_weights(const Level& now, const Level& after, const Nodes& nodes) {
    double start = now.log_snr(), stop = after.log_snr();
    return weights_of(nodes, [=](int power) {
        double lower = -signed_factorial_sum(power, start, 1.0), upper = -signed_factorial_sum(power, stop, 1.0);
        return std::exp(-stop) * (upper - lower * std::exp(stop - start));
    });
}

// Step from `now` to `after`: Adams-Bashforth, or Adams-Moulton where the first of the nodes is `after`.
Form adams(const SaSolverOptions& options, const Level& now, const Level& after, const Nodes& nodes, const Form& x,
           const Forms& outputs, const Form& noise, bool is_correcting) {
    bool is_noisy = now.timestep >= first_noisy_timestep && now.timestep <= last_noisy_timestep;
    double tau = is_noisy ? options.tau : 0.0, h = after.log_snr() - now.log_snr(), rate = 1.0 + tau * tau;
    bool is_data = options.predict == Predict::x0;
    Numbers weights = is_data ? data_weights(now, after, nodes, rate, is_correcting) : noise_weights(now, after, nodes);
    double scale = is_data ? rate * after.sigma * std::exp(-tau * tau * after.log_snr()) : -rate * after.alpha;
    double keep = is_data ? std::exp(-tau * tau * h) * after.sigma / now.sigma : after.alpha / now.alpha;
    double deviation = is_data ? after.sigma * std::sqrt(-std::expm1(-2.0 * tau * tau * h))
                               : tau * after.sigma * std::sqrt(std::expm1(2.0 * h));
    for (std::size_t each = 0; each < weights.size(); ++each) weights[each] = scale * weights[each];
    return keep * x + weighted_sum(weights, outputs) + deviation * noise;
}

}  // namespace

Status solve_sa(Scope& scope, const Problem& problem, const SaSolverOptions& options, Rows& rows) {
    if (problem.hooked && options.predict == Predict::eps) {
        return scope.fail(codes::request_sampler,
                          {"sampler 'sa_solver': predict=eps does not take a threshold; use predict=x0"});
    }
    auto predictor = static_cast<std::size_t>(options.order);
    auto corrector = static_cast<std::size_t>(options.corrector_order);
    bool lower = options.lower_order_final, is_spacing = options.sigmas == Sigmas::of_spacing;
    std::size_t kept = std::max(predictor, corrector - 1);
    Levels levels(scope.memory);
    LDM_TRY(dpm_levels(scope, problem,
                       {options.sigmas, is_spacing ? Final::sigma_min : Final::last, options.lambda_min}, levels));
    rows.keep(kept + 1);  // converted outputs, the latest first, and x before the last prediction
    std::size_t corrected = 0;  // order of the correction to come
    for (std::size_t i = problem.start; i < problem.steps; ++i) {
        Reading read = rows.read(levels[i]);
        Forms outputs = Forms{options.predict == Predict::x0 ? read.x0 : read.eps}.with(read.history, kept);
        Form x = read.x;
        if (i > problem.start) {
            x = adams(options, levels[i - 1], levels[i], levels_before(levels, i, corrected), read.history[kept],
                      outputs, rows.noise(1), true);
        }
        std::size_t done = i - problem.start, left = problem.steps - i;
        std::size_t used = std::min({predictor, lower ? left : predictor, std::min(done, kept) + 1});
        corrected = std::min({corrector, lower ? left + 1 : corrector, std::min(done, kept) + 2});
        Form next =
            adams(options, levels[i], levels[i + 1], levels_before(levels, i, used), x, outputs, rows.noise(), false);
        LDM_TRY(rows.write(read, levels[i + 1], next, outputs.first(kept).with({x})));
    }
    return Status();
}

}  // namespace ldm::sampling
