// Linear forms: weighted sums of what one row of a plan reads, so that a solver is written as in its paper.
#ifndef LDM_CORE_SAMPLING_SOLVERS_FORMS_H
#define LDM_CORE_SAMPLING_SOLVERS_FORMS_H

#include <algorithm>
#include <cstddef>

#include "core/sampling/solvers/few.h"

namespace ldm::sampling {

inline constexpr std::size_t most_history = 5;

// The symbols of a form. A row reads its own noise and that of the row before it, no other.
enum Symbol : std::size_t {
    x_symbol,
    history_symbol,  // of the first slot; those of the others follow
    output_symbol = history_symbol + most_history,
    clipped_symbol,
    noise_before_symbol,
    noise_symbol,
    symbol_count,
};

// A weighted sum of symbols. A weight that is exactly 0 stays 0, even times infinity: the form lacks the symbol.
struct Form {
    double weights[symbol_count] = {};

    static Form of(std::size_t symbol) {
        Form form;
        form.weights[symbol] = 1.0;
        return form;
    }
    Form& operator+=(const Form& other) {
        for (std::size_t each = 0; each < symbol_count; ++each) weights[each] += other.weights[each];
        return *this;
    }
    Form& operator-=(const Form& other) {
        for (std::size_t each = 0; each < symbol_count; ++each) weights[each] -= other.weights[each];
        return *this;
    }
    Form& operator*=(double factor) {
        for (double& weight : weights) weight = weight == 0.0 ? 0.0 : weight * factor;
        return *this;
    }
    Form& operator/=(double divisor) {
        for (double& weight : weights) weight = weight == 0.0 ? 0.0 : weight / divisor;
        return *this;
    }
};

inline Form operator+(Form one, const Form& other) { return one += other; }
inline Form operator-(Form one, const Form& other) { return one -= other; }
inline Form operator*(double factor, Form form) { return form *= factor; }
inline Form operator/(Form form, double divisor) { return form /= divisor; }

using Forms = Few<Form, most_history + 1>;

// Sum weight * form from left to right; both lists are of one length.
inline Form weighted_sum(const Numbers& weights, const Forms& forms) {
    Form sum;
    std::size_t count = std::min(weights.size(), forms.size());
    for (std::size_t each = 0; each < count; ++each) sum += weights[each] * forms[each];
    return sum;
}

}  // namespace ldm::sampling

#endif
