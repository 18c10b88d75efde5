#include "core/sampling/solvers/levels.h"

#include <algorithm>
#include <cmath>

#include "core/codes.h"
#include "core/sampling/solvers/beta.h"

namespace ldm::sampling {

namespace {

constexpr double karras_rho = 7.0;
constexpr double smallest_alpha_cumprod = 5.9604644775390625e-08;  // 2^-24, for 0 where a sampler divides by alpha
// Align Your Steps (arXiv:2404.14507), Stable Diffusion 1.5, ten steps; then the lowest trained level.
constexpr double ays_timesteps[] = {999.0, 850.0, 736.0, 645.0, 545.0, 455.0, 343.0, 233.0, 124.0, 24.0, 0.0};
constexpr std::size_t ays_levels = sizeof ays_timesteps / sizeof *ays_timesteps;

Status check_trained(Scope& scope, const NoiseSchedule& schedule, Spacing spacing, std::size_t steps, double timestep) {
    std::int64_t last = schedule.num_train_timesteps - 1;
    if (timestep >= 0.0 && timestep <= static_cast<double>(last)) return Status();
    return scope.fail(
        codes::request_sampler,
        {steps, " steps with timestep_spacing ", quoted(name_of(spacing)), " and steps_offset ", schedule.steps_offset,
         " reach timestep ", timestep, ", but the model was trained on 0 to ", last, "; use fewer steps"});
}

}  // namespace

double linspace(double start, double stop, std::size_t count, std::size_t index) {
    if (count == 1) return start;
    if (index + 1 == count) return stop;
    return start + static_cast<double>(index) * ((stop - start) / static_cast<double>(count - 1));
}

Status training_ratios(Scope& scope, const NoiseSchedule& schedule, View<double> bars, Array<double>& out) {
    LDM_NEED(scope, out.append(bars));
    if (schedule.rescale_betas_zero_snr) out.back() = smallest_alpha_cumprod;
    for (double& bar : out) bar = std::sqrt((1.0 - bar) / bar);
    return Status();
}

Status integer_timesteps(Scope& scope, const NoiseSchedule& schedule, Spacing spacing, std::size_t steps, bool interior,
                         std::size_t used, Array<double>& out) {
    if (used == 0) used = static_cast<std::size_t>(schedule.num_train_timesteps);
    auto all = static_cast<double>(schedule.num_train_timesteps), last = static_cast<double>(used);
    std::size_t points = interior ? steps + 1 : steps, stride = used / points;
    // of trailing: taken from the first two points, as arange does, which decides ties
    double increment = (last - all / static_cast<double>(steps)) - last;
    for (std::size_t i = 0; i < steps; ++i) {
        double t = 0.0;
        switch (spacing) {
            case Spacing::linspace: t = std::nearbyint(linspace(0.0, last - 1.0, points, points - 1 - i)); break;
            case Spacing::leading:
                t = static_cast<double>((points - 1 - i) * stride) + static_cast<double>(schedule.steps_offset);
                break;
            case Spacing::trailing: t = std::nearbyint(last + static_cast<double>(i) * increment) - 1.0; break;
        }
        LDM_TRY(check_trained(scope, schedule, spacing, steps, t));
        LDM_NEED(scope, out.push(t));
    }
    return Status();
}

Status fractional_timesteps(Scope& scope, const NoiseSchedule& schedule, Spacing spacing, std::size_t steps,
                            bool is_float64, Array<double>& out) {
    if (spacing != Spacing::linspace) return integer_timesteps(scope, schedule, spacing, steps, false, 0, out);
    for (std::size_t i = steps; i-- > 0;) {
        double t = linspace(0.0, static_cast<double>(schedule.num_train_timesteps) - 1.0, steps, i);
        LDM_NEED(scope, out.push(is_float64 ? t : static_cast<double>(static_cast<float>(t))));
    }
    return Status();
}

double ratio_at(View<double> ratios, double timestep) {
    std::size_t low = std::min(static_cast<std::size_t>(timestep), ratios.size - 2);
    return ratios[low] + (timestep - static_cast<double>(low)) * (ratios[low + 1] - ratios[low]);
}

double timestep_of(double ratio, View<double> ratios) {
    std::size_t last = ratios.size - 1;  // the only one that may be below the one before it
    const double* above = std::upper_bound(ratios.begin(), ratios.begin() + last, ratio);
    std::size_t low = ratios[last] <= ratio ? last : static_cast<std::size_t>(above - ratios.begin());
    if (low < last && low > 0) --low;
    low = std::min(low, last - 1);
    double log_low = std::log(ratios[low]), log_high = std::log(ratios[low + 1]);
    double weight = (log_low - std::log(std::max(ratio, 1e-10))) / (log_low - log_high);
    weight = std::min(std::max(weight, 0.0), 1.0);
    return (1.0 - weight) * static_cast<double>(low) + weight * static_cast<double>(low + 1);
}

Status spread(Scope& scope, Sigmas kind, double high, double low, std::size_t steps, Array<double>& out) {
    double top = std::pow(high, 1.0 / karras_rho), bottom = std::pow(low, 1.0 / karras_rho);
    double log_high = std::log(high), log_low = std::log(low);
    for (std::size_t i = 0; i < steps; ++i) {
        double ramp = linspace(0.0, 1.0, steps, i);
        double ratio = kind == Sigmas::karras ? std::pow(top + ramp * (bottom - top), karras_rho)
                       : kind == Sigmas::beta ? low + beta_quantile(1.0 - ramp) * (high - low)
                                              : std::exp(linspace(log_high, log_low, steps, i));
        LDM_NEED(scope, out.push(ratio));
    }
    return Status();
}

Status ays_ratios(Scope& scope, View<double> ratios, std::size_t steps, Array<double>& out) {
    double levels[ays_levels];
    for (std::size_t i = 0; i < ays_levels; ++i) levels[i] = std::log(ratio_at(ratios, ays_timesteps[i]));
    for (std::size_t i = 0; i < steps; ++i) {
        double place = linspace(0.0, static_cast<double>(ays_levels - 1), steps + 1, i);
        std::size_t low = std::min(static_cast<std::size_t>(place), ays_levels - 2);
        double level = levels[low] + (place - static_cast<double>(low)) * (levels[low + 1] - levels[low]);
        LDM_NEED(scope, out.push(std::exp(level)));
    }
    return Status();
}

Status levels_of(Scope& scope, View<double> timesteps, View<double> ratios, double final, Levels& out) {
    double last = ratios[ratios.size - 1];
    if (final > 0.0 && std::fabs(final / last - 1.0) < 1e-9) final = last;
    LDM_TRY(check_falling(scope, timesteps, ratios, final == last ? -infinity : final));
    for (std::size_t i = 0; i < ratios.size; ++i) {
        LDM_NEED(scope, out.push(level_of_ratio(timesteps[i], ratios[i])));
    }
    LDM_NEED(scope, out.push(level_of_ratio(no_timestep, final)));
    return Status();
}

Status check_falling(Scope& scope, View<double> timesteps, View<double> ratios, double final) {
    for (std::size_t i = 0; i < ratios.size; ++i) {
        bool is_last = i + 1 == ratios.size;
        if ((is_last ? final : ratios[i + 1]) < ratios[i]) continue;
        return scope.fail(codes::request_sampler,
                          {timesteps.size, " steps are too many for this sampler and schedule: the noise does not fall",
                           " after step ", i + 1, " (timestep ", timesteps[i],
                           "); use fewer steps or another timestep_spacing"});
    }
    return Status();
}

}  // namespace ldm::sampling
