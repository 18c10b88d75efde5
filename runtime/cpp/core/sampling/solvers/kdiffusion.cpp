#include "core/sampling/solvers/kdiffusion.h"

#include <algorithm>
#include <cmath>

#include "core/sampling/solvers/lagrange.h"

namespace ldm::sampling {

namespace {

constexpr std::size_t lms_order = 4;

// Going down to `down` and adding noise of deviation `up` ends at ratio_next.
struct Ancestral {
    double down, up;

    Ancestral(double ratio, double ratio_next)
        : down(ratio_next * ratio_next / ratio),
          up(ratio_next * std::sqrt((ratio - ratio_next) * (ratio + ratio_next)) / ratio) {}
};

// Go along the slope from this level to `ratio`.
Form towards(const Reading& read, double ratio) {
    double keep = ratio / read.level.ratio();
    return keep * read.x + (1.0 - keep) * read.x0;
}

// Integrate the Lagrange polynomial of nodes[chosen] from start to stop, exactly.
double integral(const Numbers& nodes, std::size_t chosen, double start, double stop) {
    double width = stop - start, sum = 0.0;
    Numbers polynomial = lagrange(nodes, chosen, start);
    for (std::size_t power = 0; power < polynomial.size(); ++power) {
        auto above = static_cast<int>(power + 1);
        sum += polynomial[power] * std::pow(width, above) / above;
    }
    return sum;
}

// Levels of a solver of k-diffusion, and the scale of the noise that it starts from.
Status begin(Scope& scope, const Problem& problem, const KLevels& chosen, Rows& rows, Levels& levels) {
    LDM_TRY(k_levels(scope, problem, chosen, levels));
    rows.initial_scale = k_initial_scale(problem, levels);
    return Status();
}

KLevels with_karras_integers(Sigmas sigmas) {
    KLevels chosen{sigmas};
    chosen.karras_integers = true;
    return chosen;
}

}  // namespace

Status solve_euler(Scope& scope, const Problem& problem, const EulerOptions& options, Rows& rows) {
    Levels levels(scope.memory);
    LDM_TRY(begin(scope, problem, {options.sigmas, options.final, options.sigma_min, options.sigma_max}, rows, levels));
    for (std::size_t i = problem.start; i < problem.steps; ++i) {
        const Level &now = levels[i], &after = levels[i + 1];
        Reading read = rows.read(now, now.alpha);
        LDM_TRY(rows.write(read, after, towards(read, after.ratio())));
    }
    return Status();
}

Status solve_euler_ancestral(Scope& scope, const Problem& problem, const NoOptions&, Rows& rows) {
    Levels levels(scope.memory);
    LDM_TRY(begin(scope, problem, {}, rows, levels));
    for (std::size_t i = problem.start; i < problem.steps; ++i) {
        const Level &now = levels[i], &after = levels[i + 1];
        Reading read = rows.read(now, now.alpha);
        Ancestral step(now.ratio(), after.ratio());
        LDM_TRY(rows.write(read, after, towards(read, step.down) + step.up * rows.noise()));
    }
    return Status();
}

Status solve_heun(Scope& scope, const Problem& problem, const HeunOptions& options, Rows& rows) {
    Levels levels(scope.memory);
    LDM_TRY(begin(scope, problem, {options.sigmas}, rows, levels));
    rows.keep(2);  // x and the slope at the start of the step
    for (std::size_t i = problem.start; i < problem.steps; ++i) {
        const Level &now = levels[i], &after = levels[i + 1];
        Reading read = rows.read(now, now.alpha);
        Forms past{read.x, (read.x - read.x0) / now.ratio()};
        LDM_TRY(rows.write(read, after, towards(read, after.ratio()), past, after.sigma == 0.0));
        if (!(after.sigma > 0.0)) continue;
        read = rows.read(after, after.alpha);
        const Form &start = read.history[0], &slope = read.history[1];
        Form mean = 0.5 * (slope + (read.x - read.x0) / after.ratio());
        LDM_TRY(rows.write(read, after, start + (after.ratio() - now.ratio()) * mean));
    }
    return Status();
}

Status solve_dpm2(Scope& scope, const Problem& problem, const SigmaOptions& options, Rows& rows) {
    Levels levels(scope.memory);
    LDM_TRY(begin(scope, problem, with_karras_integers(options.sigmas), rows, levels));
    rows.keep(1);  // x at the start of the step
    for (std::size_t i = problem.start; i < problem.steps; ++i) {
        const Level &now = levels[i], &after = levels[i + 1];
        Reading read = rows.read(now, now.alpha);
        if (!(after.sigma > 0.0)) {
            LDM_TRY(rows.write(read, after, towards(read, after.ratio())));
            continue;
        }
        Level middle = problem.level_at(std::sqrt(now.ratio() * after.ratio()));
        LDM_TRY(rows.write(read, middle, towards(read, middle.ratio()), {read.x}, false));
        read = rows.read(middle, middle.alpha);
        const Form& start = read.history[0];
        LDM_TRY(rows.write(read, after, start + (after.ratio() - now.ratio()) / middle.ratio() * (read.x - read.x0)));
    }
    return Status();
}

Status solve_dpm2_ancestral(Scope& scope, const Problem& problem, const SigmaOptions& options, Rows& rows) {
    Levels levels(scope.memory);
    LDM_TRY(begin(scope, problem, with_karras_integers(options.sigmas), rows, levels));
    rows.keep(1);
    for (std::size_t i = problem.start; i < problem.steps; ++i) {
        const Level &now = levels[i], &after = levels[i + 1];
        Reading read = rows.read(now, now.alpha);
        if (!(after.sigma > 0.0)) {
            LDM_TRY(rows.write(read, after, towards(read, after.ratio())));
            continue;
        }
        Ancestral step(now.ratio(), after.ratio());
        Level middle = problem.level_at(std::sqrt(now.ratio() * step.down));
        LDM_TRY(rows.write(read, middle, towards(read, middle.ratio()), {read.x}, false));
        read = rows.read(middle, middle.alpha);
        const Form& start = read.history[0];
        Form x = start + (step.down - now.ratio()) / middle.ratio() * (read.x - read.x0);
        LDM_TRY(rows.write(read, after, x + step.up * rows.noise()));
    }
    return Status();
}

Status solve_dpmpp_sde(Scope& scope, const Problem& problem, const SigmaOptions& options, Rows& rows) {
    Levels levels(scope.memory);
    KLevels chosen{options.sigmas};
    chosen.float64_timesteps = true;
    LDM_TRY(begin(scope, problem, chosen, rows, levels));
    rows.keep(1);
    for (std::size_t i = problem.start; i < problem.steps; ++i) {
        const Level &now = levels[i], &after = levels[i + 1];
        Reading read = rows.read(now, now.alpha);
        if (!(after.sigma > 0.0)) {
            LDM_TRY(rows.write(read, after, towards(read, after.ratio())));
            continue;
        }
        Level middle = problem.level_at(std::sqrt(now.ratio() * after.ratio()));
        Ancestral half(now.ratio(), middle.ratio());
        LDM_TRY(rows.write(read, middle, towards(read, half.down) + half.up * rows.noise(), {read.x}, false));
        read = rows.read(middle, middle.alpha);
        const Form& start = read.history[0];
        Ancestral step(now.ratio(), after.ratio());
        double whole = now.ratio() - after.ratio();
        Form path = std::sqrt((now.ratio() - middle.ratio()) / whole) * rows.noise(1);
        path += std::sqrt((middle.ratio() - after.ratio()) / whole) * rows.noise();
        double keep = step.down / now.ratio();
        LDM_TRY(rows.write(read, after, keep * start + (1.0 - keep) * read.x0 + step.up * path));
    }
    return Status();
}

Status solve_lms(Scope& scope, const Problem& problem, const SigmaOptions& options, Rows& rows) {
    Levels levels(scope.memory);
    LDM_TRY(begin(scope, problem, {options.sigmas}, rows, levels));
    rows.keep(lms_order - 1);  // slopes, the latest first
    for (std::size_t i = problem.start; i < problem.steps; ++i) {
        const Level &now = levels[i], &after = levels[i + 1];
        Reading read = rows.read(now, now.alpha);
        Forms slopes = Forms{(read.x - read.x0) / now.ratio()}.with(read.history).first(i + 1 - problem.start);
        Numbers nodes, weights;
        for (std::size_t k = 0; k < std::min(i + 1, lms_order); ++k) nodes.push(levels[i - k].ratio());
        // After a late start diffusers goes through nodes before it too, and leaves out their slopes.
        for (std::size_t k = 0; k < std::min(nodes.size(), slopes.size()); ++k) {
            weights.push(integral(nodes, k, now.ratio(), after.ratio()));
        }
        Form x = read.x + weighted_sum(weights, slopes);
        LDM_TRY(rows.write(read, after, x, slopes.first(lms_order - 1)));
    }
    return Status();
}

}  // namespace ldm::sampling
