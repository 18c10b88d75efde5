// The noise levels that a sampler visits: timestep spacings, and sigma schedules between two levels.
//
// Everything here follows the schedulers of diffusers 0.39 to the rounding of each timestep, because the model is told
// the timestep. A ratio is sigma / alpha, which diffusers calls sigma.
//
// Where diffusers leaves the trained timesteps by accident we do not follow: leading with an offset and as many steps
// as training had ends above the last one (refused); trailing makes one row too many, at timestep -1, for 61, 103, … of
// 1000 steps (left out).
#ifndef LDM_CORE_SAMPLING_SOLVERS_LEVELS_H
#define LDM_CORE_SAMPLING_SOLVERS_LEVELS_H

#include <cstddef>
#include <string_view>

#include "core/memory.h"
#include "core/sampling/schedule.h"
#include "core/sampling/solvers/rows.h"
#include "core/status.h"

namespace ldm::sampling {

enum class Sigmas : int { of_spacing, karras, exponential, beta, lu, ays };
inline constexpr std::string_view k_sigmas[] = {"default", "karras", "exponential", "beta"};
inline constexpr std::string_view dpm_sigmas[] = {"default", "karras", "exponential", "beta", "lu", "ays"};

// The index-th of `count` numbers from start to stop, evenly.
double linspace(double start, double stop, std::size_t count, std::size_t index);

// sigma / alpha at every training timestep, increasing; finite under zero terminal SNR too.
Status training_ratios(Scope& scope, const NoiseSchedule& schedule, View<double> bars, Array<double>& out);

// Integer timesteps, high to low (table 2 of arXiv:2305.08891, rounding as in diffusers: half to even).
//
// interior: as DPM-Solver counts, steps + 1 points of which the lowest is left out. used: the number of training
// timesteps that are used; 0: all.
Status integer_timesteps(Scope& scope, const NoiseSchedule& schedule, Spacing spacing, std::size_t steps, bool interior,
                         std::size_t used, Array<double>& out);

// Timesteps as k-diffusion counts them: linspace gives fractions, as float32 values unless is_float64.
Status fractional_timesteps(Scope& scope, const NoiseSchedule& schedule, Spacing spacing, std::size_t steps,
                            bool is_float64, Array<double>& out);

// sigma / alpha at a timestep, interpolated linearly between training timesteps.
double ratio_at(View<double> ratios, double timestep);

// The timestep of a noise level, a fraction, interpolated in ln(sigma / alpha).
double timestep_of(double ratio, View<double> ratios);

// `steps` ratios from high to low.
//
// karras: equation 5 of arXiv:2206.00364, rho 7. exponential: even in the logarithm. beta: at the quantiles of
// Beta(0.6, 0.6), arXiv:2407.12173. lu: even in lambda, arXiv:2206.00927, the same as exponential.
Status spread(Scope& scope, Sigmas kind, double high, double low, std::size_t steps, Array<double>& out);

// The levels of Align Your Steps; numbers other than ten are interpolated in the logarithm. The eleventh level, which
// is left out here, is the lowest trained one.
Status ays_ratios(Scope& scope, View<double> ratios, std::size_t steps, Array<double>& out);

// The levels of falling ratios, and the final one, which no model sees. It may equal the last. request.sampler for
// ratios that do not fall.
Status levels_of(Scope& scope, View<double> timesteps, View<double> ratios, double final, Levels& out);

// Refuse ratios that do not fall, the last of them to `final`.
Status check_falling(Scope& scope, View<double> timesteps, View<double> ratios, double final);

}  // namespace ldm::sampling

#endif
