// Prompts to windows of token ids: a package's tokenizer, the begin, end and padding tokens of its contract.
#ifndef LDM_CORE_TEXT_PROMPT_TOKENIZER_H
#define LDM_CORE_TEXT_PROMPT_TOKENIZER_H

#include <cstdint>
#include <string_view>

#include "core/memory.h"
#include "core/notices.h"
#include "core/package/contract.h"
#include "core/status.h"
#include "core/text/tokenizer.h"

namespace ldm::text {

// In an arena; threads share it.
struct PromptTokenizer {
    Tokenizer clip;
    TokenizerFacts facts;

    // Tokens that follow an added one: <x> stands for all of <x>, <x>_1, <x>_2, which diffusers makes for an embedding of
    // three vectors.
    struct Vectors {
        std::int32_t first;
        View<std::int32_t> others;
    };
    View<Vectors> vectors;  // by `first`

    // How many tokens of text a window holds.
    std::size_t room() const { return static_cast<std::size_t>(facts.max_length - 2); }
};

// One window: (max_length) ids, and the weight of each; no weights where all are 1 by the syntax.
struct Window {
    View<std::int64_t> ids;
    View<double> weights;
};

// Read the content of a tokenizer.json into the arena; `where` names the file in messages. Codes: json.*, tokenizer.*,
// manifest.text for other begin, end or padding tokens than the contract's.
Status read_prompt_tokenizer(Scope& scope, Arena& arena, std::string_view content, std::string_view where,
                             const TokenizerFacts& facts, PromptTokenizer& out);

// Refuse a prompt that is too long or not valid Unicode. Code: request.prompt.
Status check_prompt(Scope& scope, std::string_view prompt, std::string_view name);

// Read a prompt in a syntax, "plain" or "weighted", as its windows: at least one, of plain text exactly one. What a plain
// prompt has beyond it is left out with a notice. The prompt was checked; name: of the prompt in messages. Code: request.prompt.
Status read_windows(Scope& scope, Arena& arena, const PromptTokenizer& tokenizer, std::string_view prompt,
                    std::string_view name, std::string_view syntax, Notices& notices, View<Window>& out);

// The window of the empty prompt.
Status empty_window(Scope& scope, Arena& arena, const PromptTokenizer& tokenizer, View<std::int64_t>& ids);

}  // namespace ldm::text

#endif
