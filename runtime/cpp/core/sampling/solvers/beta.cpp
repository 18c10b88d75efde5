#include "core/sampling/solvers/beta.h"

#include <cmath>

namespace ldm::sampling {

namespace {

constexpr double shape = 0.6;
constexpr double log_gammas = -0.8818418061417858;  // ln gamma(2 shape) - 2 ln gamma(shape)
constexpr double small = 1e-300;
constexpr int halvings = 1100;  // float64 has no number between the ends after that

double away_from_zero(double value) { return std::fabs(value) > small ? value : small; }

// I_x(shape, shape) for 0 < x <= 1/2 by its continued fraction (DLMF 8.17.22), modified Lentz's method.
double incomplete_beta(double x) {
    double log_front = log_gammas + shape * (std::log(x) + std::log1p(-x));
    double c = 1.0, d = 1.0 / away_from_zero(1.0 - 2.0 * shape * x / (shape + 1.0));
    double fraction = d;
    for (int index = 1; index < 500; ++index) {
        double m = index;
        const double steps[] = {m * (shape - m) * x / ((shape + 2.0 * m - 1.0) * (shape + 2.0 * m)),
                                -(shape + m) * (2.0 * shape + m) * x / ((shape + 2.0 * m) * (shape + 2.0 * m + 1.0))};
        for (double step : steps) {
            d = 1.0 / away_from_zero(1.0 + step * d);
            c = away_from_zero(1.0 + step / c);
            fraction *= c * d;
        }
        if (std::fabs(c * d - 1.0) < 1e-16) break;
    }
    return std::exp(log_front) * fraction / shape;
}

}  // namespace

double beta_quantile(double share) {
    if (share == 0.0 || share == 1.0) return share;
    if (share > 0.5) return 1.0 - beta_quantile(1.0 - share);
    double low = 0.0, high = 0.5;
    for (int index = 0; index < halvings; ++index) {
        double middle = 0.5 * (low + high);
        if (middle == low || middle == high) break;
        (incomplete_beta(middle) < share ? low : high) = middle;
    }
    return 0.5 * (low + high);
}

}  // namespace ldm::sampling
