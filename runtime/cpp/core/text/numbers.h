// Numbers as texts, the same in every implementation of the runtime.
#ifndef LDM_CORE_TEXT_NUMBERS_H
#define LDM_CORE_TEXT_NUMBERS_H

#include <cstddef>
#include <string_view>

namespace ldm::numbers {

struct Spelt {
    char text[40];
    std::size_t size = 0;
    std::string_view view() const { return {text, size}; }
};

// The shortest text that reads back as the same number, as Python's repr: "0.5", "3.0", "1e-05", "-inf".
Spelt shortest(double value);

// Nine digits, as "%.9g".
Spelt rounded(double value);

// All 17 digits, as "%.17g": what identities are hashed of.
Spelt exact(double value);

// Read a decimal number, "-1", "+.5", "2e-3" or "inf", which has to be the whole text. One too large is infinite, one
// too small is zero.
bool read(std::string_view text, double& out);

}  // namespace ldm::numbers

#endif
