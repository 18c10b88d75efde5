// Lagrange's interpolating polynomials, which multistep solvers integrate.
#ifndef LDM_CORE_SAMPLING_SOLVERS_LAGRANGE_H
#define LDM_CORE_SAMPLING_SOLVERS_LAGRANGE_H

#include "core/sampling/solvers/few.h"

namespace ldm::sampling {

// The polynomial in (t - origin) that is 1 at nodes[chosen] and 0 at the others, constant term first.
inline Numbers lagrange(const Numbers& nodes, std::size_t chosen, double origin = 0.0) {
    Numbers coefficients{1.0};
    for (std::size_t index = 0; index < nodes.size(); ++index) {
        if (index == chosen) continue;
        double scale = nodes[chosen] - nodes[index];
        Numbers next;
        for (std::size_t power = 0; power <= coefficients.size(); ++power) {
            double lower = power == 0 ? 0.0 : coefficients[power - 1];
            double same = power == coefficients.size() ? 0.0 : coefficients[power];
            next.push((lower + (origin - nodes[index]) * same) / scale);
        }
        coefficients = next;
    }
    return coefficients;
}

}  // namespace ldm::sampling

#endif
