#include "core/sampling/solvers/diffusion.h"

#include <algorithm>
#include <cmath>

#include "core/codes.h"

namespace ldm::sampling {

namespace {

constexpr double sigma_data = 0.5;  // of consistency models, arXiv:2303.01469

// The timesteps of a distilled model: `steps` of the `original` ones that it was distilled from. reach: the share of
// them that is used; 0: all.
Status distilled_timesteps(Scope& scope, std::string_view sampler, const Problem& problem, int original, double reach,
                           Array<double>& out) {
    std::int64_t count = problem.schedule.num_train_timesteps;
    auto steps = static_cast<std::int64_t>(problem.steps);
    std::int64_t used = reach > 0.0 ? static_cast<std::int64_t>(original * reach) : original;
    if (original > count || steps > used) {
        Piece share = reach > 0.0 ? Piece(reach) : Piece("");
        return scope.fail(
            codes::request_sampler,
            {steps, " steps of ", quoted(sampler), " are not usable with original_steps ", original,
             reach > 0.0 ? ", reach " : "", share, " and ", count, " trained timesteps: expected at most ", used,
             " steps, and original_steps of at most ", count});
    }
    std::int64_t stride = count / original;
    double step = static_cast<double>(used) / static_cast<double>(steps);
    for (std::int64_t i = 0; i < steps; ++i) {
        auto place = static_cast<std::int64_t>(static_cast<double>(i) * step);  // as NumPy's linspace rounds
        LDM_NEED(scope, out.push(static_cast<double>((used - place) * stride - 1)));
    }
    return Status();
}

}  // namespace

Status solve_ddpm(Scope& scope, const Problem& problem, const DdpmOptions& options, Rows& rows) {
    Array<double> timesteps(scope.memory);
    LDM_TRY(integer_timesteps(scope, problem.schedule, problem.spacing, problem.steps, false, 0, timesteps));
    for (std::size_t i = problem.start; i < problem.steps; ++i) {
        double bar = problem.bar_at(timesteps[i]);
        bool last = i + 1 == problem.steps;
        double bar_next = last ? 1.0 : problem.bar_at(timesteps[i + 1]);
        Level now = level_of_bar(timesteps[i], bar), after = level_of_bar(no_timestep, bar_next);
        Reading read = rows.read(now);
        double step_alpha = bar / bar_next;
        double step_beta = 1.0 - step_alpha;
        Form x = (after.alpha * step_beta / (1.0 - bar)) * read.x0;
        x += (std::sqrt(step_alpha) * (1.0 - bar_next) / (1.0 - bar)) * read.x;
        bool large = options.variance == Variance::fixed_large;
        double variance = large ? step_beta : step_beta * (1.0 - bar_next) / (1.0 - bar);
        if (timesteps[i] > 0.0 && variance > 0.0) x += std::sqrt(variance) * rows.noise();
        LDM_TRY(rows.write(read, after, x));
    }
    return Status();
}

Status solve_ddim(Scope& scope, const Problem& problem, const DdimOptions& options, Rows& rows) {
    Array<double> timesteps(scope.memory);
    LDM_TRY(integer_timesteps(scope, problem.schedule, problem.spacing, problem.steps, false, 0, timesteps));
    auto stride = static_cast<double>(problem.schedule.num_train_timesteps / static_cast<std::int64_t>(problem.steps));
    for (std::size_t i = problem.start; i < problem.steps; ++i) {
        double t = timesteps[i];
        double bar = problem.bar_at(t), bar_next = problem.bar_before(t - stride);
        Level now = level_of_bar(t, bar), after = level_of_bar(no_timestep, bar_next);
        Reading read = rows.read(now);
        double variance = (1.0 - bar_next) / (1.0 - bar) * (1.0 - bar / bar_next);
        double deviation = options.eta * std::sqrt(std::max(variance, 0.0));
        // x' = alpha' x0 + sqrt(sigma'^2 - deviation^2) eps + deviation noise
        Form x = after.alpha * read.x0 + std::sqrt(std::max(1.0 - bar_next - deviation * deviation, 0.0)) * read.eps;
        LDM_TRY(rows.write(read, after, x + deviation * rows.noise()));
    }
    return Status();
}

Status solve_lcm(Scope& scope, const Problem& problem, const LcmOptions& options, Rows& rows) {
    Array<double> timesteps(scope.memory);
    LDM_TRY(distilled_timesteps(scope, "lcm", problem, options.original_steps, options.reach, timesteps));
    for (std::size_t i = problem.start; i < problem.steps; ++i) {
        bool last = i + 1 == problem.steps;
        Level now = level_of_bar(timesteps[i], problem.bar_at(timesteps[i]));
        Level after = level_of_bar(no_timestep, last ? 1.0 : problem.bar_at(timesteps[i + 1]));
        Reading read = rows.read(now);
        double scaled = timesteps[i] * options.timestep_scaling;
        double spread = scaled * scaled + sigma_data * sigma_data;
        Form denoised = scaled / std::sqrt(spread) * read.x0 + sigma_data * sigma_data / spread * read.x;
        Form x = last ? denoised : after.alpha * denoised + after.sigma * rows.noise();
        LDM_TRY(rows.write(read, after, x));
    }
    return Status();
}

Status solve_tcd(Scope& scope, const Problem& problem, const TcdOptions& options, Rows& rows) {
    Array<double> timesteps(scope.memory);
    LDM_TRY(distilled_timesteps(scope, "tcd", problem, options.original_steps, 0.0, timesteps));
    double eta = options.eta;
    for (std::size_t i = problem.start; i < problem.steps; ++i) {
        bool last = i + 1 == problem.steps;
        double t_next = last ? 0.0 : timesteps[i + 1];
        Level now = level_of_bar(timesteps[i], problem.bar_at(timesteps[i]));
        Level after = level_of_bar(no_timestep, problem.bar_at(t_next));
        double t_middle = std::floor((1.0 - eta) * t_next);  // the model's jump ends here
        Level middle = level_of_bar(no_timestep, problem.bar_at(t_middle));
        Reading read = rows.read(now);
        Form x = middle.alpha * read.x0 + middle.sigma * read.eps;
        if (eta > 0.0 && !last) {
            double back = after.alpha / middle.alpha;
            x = back * x + std::sqrt(std::max(1.0 - back * back, 0.0)) * rows.noise();
        } else {
            after = middle;
        }
        LDM_TRY(rows.write(read, after, x));
    }
    return Status();
}

}  // namespace ldm::sampling
