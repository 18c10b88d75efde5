// The weighted prompt syntax: `(word:1.3)`, `(word)`, `[word]`, BREAK. The definition stands in the Python runtime's
// text/weighting.py, by whose points the functions here are.
#ifndef LDM_CORE_TEXT_WEIGHTING_H
#define LDM_CORE_TEXT_WEIGHTING_H

#include <cstddef>
#include <string_view>

#include "core/memory.h"
#include "core/status.h"

namespace ldm::text {

// A stretch of text with one weight.
struct Piece {
    std::string_view text;
    double weight = 1.0;
};

// Split a prompt at its BREAKs into parts, each a list of pieces; all lives in the arena. name: what a failure calls the
// prompt. Code: request.prompt, for a weight or a product of them that is out of range.
Status parse_prompt(Scope& scope, Arena& arena, std::string_view prompt, std::string_view name, View<View<Piece>>& out);

// Multiply an embedding (tokens, width), whose rows are `stride` numbers apart, by the weights of its tokens, and restore
// its root mean square. Nothing changes where all weights are 1.
void weigh(float* states, std::size_t tokens, std::size_t width, std::size_t stride, const double* weights);

}  // namespace ldm::text

#endif
