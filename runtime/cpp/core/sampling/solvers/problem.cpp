#include "core/sampling/solvers/problem.h"

#include <algorithm>
#include <cmath>

#include "core/codes.h"

namespace ldm::sampling {

Status k_levels(Scope& scope, const Problem& problem, const KLevels& chosen, Levels& out) {
    Array<double> timesteps(scope.memory), ratios(scope.memory);
    LDM_TRY(fractional_timesteps(scope, problem.schedule, problem.spacing, problem.steps, chosen.float64_timesteps,
                                 timesteps));
    for (double t : timesteps) LDM_NEED(scope, ratios.push(ratio_at(problem.training, t)));
    if (chosen.sigmas != Sigmas::of_spacing) {
        double high = chosen.sigma_max == 0.0 ? ratios[0] : chosen.sigma_max;
        double low = chosen.sigma_min == 0.0 ? ratios.back() : chosen.sigma_min;
        ratios.shrink(0);
        LDM_TRY(spread(scope, chosen.sigmas, high, low, problem.steps, ratios));
        bool is_rounded = chosen.sigmas == Sigmas::karras && chosen.karras_integers;
        for (std::size_t i = 0; i < problem.steps; ++i) {
            double t = timestep_of(ratios[i], problem.training);
            timesteps[i] = is_rounded ? std::nearbyint(t) : t;
        }
    }
    double final = chosen.final == Final::sigma_min ? problem.training[0] : 0.0;
    return levels_of(scope, timesteps.view(), ratios.view(), final, out);
}

double k_initial_scale(const Problem& problem, const Levels& levels) {
    double ratio = levels[0].ratio();
    return problem.spacing == Spacing::leading ? std::sqrt(ratio * ratio + 1.0) : ratio;
}

// Timesteps and ratios of the spacing, over the training timesteps that have ln(alpha / sigma) of lambda_min or more.
static Status levels_of_spacing(Scope& scope, const Problem& problem, double lambda_min, Array<double>& timesteps,
                                Array<double>& ratios) {
    auto is_used = [lambda_min](double ratio) { return -std::log(ratio) >= lambda_min; };
    auto used = static_cast<std::size_t>(std::count_if(problem.training.begin(), problem.training.end(), is_used));
    if (used < 2) {
        return scope.fail(codes::request_sampler,
                          {"lambda_min ", lambda_min, " leaves no trained noise level; use a lower one"});
    }
    LDM_TRY(integer_timesteps(scope, problem.schedule, problem.spacing, problem.steps, true, used, timesteps));
    for (double t : timesteps) LDM_NEED(scope, ratios.push(problem.training[static_cast<std::size_t>(t)]));
    return Status();
}

Status dpm_levels(Scope& scope, const Problem& problem, const DpmLevels& chosen, Levels& out) {
    Array<double> timesteps(scope.memory), ratios(scope.memory);
    View<double> training = problem.training;
    double lowest = training[0], highest = training[training.size - 1];
    if (chosen.sigmas == Sigmas::of_spacing) {
        LDM_TRY(levels_of_spacing(scope, problem, chosen.lambda_min, timesteps, ratios));
    } else if (chosen.sigmas == Sigmas::ays) {
        LDM_TRY(ays_ratios(scope, training, problem.steps, ratios));
    } else {
        LDM_TRY(spread(scope, chosen.sigmas, highest, lowest, problem.steps, ratios));
    }
    if (chosen.sigmas != Sigmas::of_spacing) {
        bool is_rounded = chosen.sigmas == Sigmas::ays || (chosen.sigmas == Sigmas::karras && chosen.rounds_karras) ||
                          (chosen.sigmas == Sigmas::lu && chosen.rounds_lu);
        for (double ratio : ratios) {
            double t = timestep_of(ratio, training);
            LDM_NEED(scope, timesteps.push(is_rounded ? std::nearbyint(t) : std::floor(t)));
        }
    }
    double final = chosen.final == Final::zero ? 0.0 : chosen.final == Final::sigma_min ? lowest : ratios.back();
    return levels_of(scope, timesteps.view(), ratios.view(), final, out);
}

}  // namespace ldm::sampling
