// The weighted prompt syntax, `(word:1.3)`, `(word)`, `[word]`, BREAK, and the windows of token ids that a text encoder
// reads. The definition is in the Python runtime's weighting.py.
#ifndef LDM_CORE_TEXT_PROMPT_H
#define LDM_CORE_TEXT_PROMPT_H

#include <cstdint>
#include <string_view>

#include "core/memory.h"
#include "core/package/contract.h"
#include "core/status.h"
#include "core/text/tokenizer.h"

namespace ldm {

enum class Syntax { plain, weighted };

// A stretch of text with one weight.
struct WeightedText {
    std::string_view text;
    double weight = 1.0;
};

// One window: begin, tokens, end, padding; and the weight of each in the weighted syntax.
struct Window {
    View<std::int32_t> ids;  // (max_length)
    View<double> weights;    // (max_length), or none
};

// What of a plain prompt did not fit: from the begin of a word, if that is near, without white space around it.
struct LeftOut {
    std::string_view text;
    std::size_t words = 0, characters = 0;
};

struct PromptWindows {
    View<Window> windows;
    LeftOut left_out;
};

// Split a prompt at its BREAKs into parts, each a list of texts. name: what a sentence calls the prompt. prompt: valid
// UTF-8. Code: request.prompt, for a weight, or a product of them, that is out of range.
Status parse_prompt(Scope& scope, Arena& arena, std::string_view prompt, std::string_view name,
                    View<View<WeightedText>>& out);

// Refuse a prompt that is too long or not UTF-8. Code: request.prompt.
Status check_prompt(Scope& scope, std::string_view prompt, std::string_view name);

// The windows of a prompt, at least one; one in the plain syntax. Code: request.prompt, for a prompt that is too long,
// not UTF-8, cannot be read, or has weight 0 everywhere. The prompt must live as long as what was left out of it.
Status prompt_windows(Scope& scope, Arena& arena, const Tokenizer& tokenizer, const TokenizerFacts& facts,
                      std::string_view prompt, std::string_view name, Syntax syntax, PromptWindows& out);

// Multiply a window's embedding (tokens, width) by the weights of its tokens, and restore its root mean square.
void weigh(float* embedding, std::size_t width, View<double> weights);

}  // namespace ldm

#endif
