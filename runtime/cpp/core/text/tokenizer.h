// CLIP's tokenizer: tokenizer.json, read strictly, and texts to token ids, as CLIP's fast tokenizer makes them.
#ifndef LDM_CORE_TEXT_TOKENIZER_H
#define LDM_CORE_TEXT_TOKENIZER_H

#include <cstdint>
#include <string_view>

#include "core/memory.h"
#include "core/status.h"
#include "core/text/added_tokens.h"
#include "core/text/byte_pairs.h"

namespace ldm {

inline constexpr std::size_t max_tokenizer_bytes = std::size_t(1) << 24;  // CLIP's own has 3.6 MB
inline constexpr std::size_t max_tokens = std::size_t(1) << 20;           // CLIP has 49,408
inline constexpr std::size_t max_token_length = 1024;                     // characters
inline constexpr std::size_t max_added_length = std::size_t(1) << 20;     // characters of all added tokens together
inline constexpr std::size_t max_prompt_characters = 100000;
inline constexpr std::int32_t no_token = -1;

// The tokens that stand for a textual inversion of several vectors: <x> is all of <x>, <x>_1, <x>_2.
struct Inversion {
    std::int32_t id;
    View<std::int32_t> others;
};

// Does not change once it is read: threads share it. All of it is in the arena that it was read into.
struct Tokenizer {
    std::int64_t size = 0;                            // one more than the largest id
    std::int32_t byte_ids[256], last_byte_ids[256];   // of a byte, and of one that ends a word; no_token: none
    std::int32_t unknown = no_token;                  // of a byte that has none; no_token: it is left out
    std::int32_t comma = no_token;                    // "," as a word
    Merges merges;
    View<AddedToken> added;  // by id
    AddedTokens literal;     // looked for in the text as it is
    AddedTokens normalised;  // looked for in its normal form
    View<Inversion> inversions;  // by id
    bool splits_special = false;  // the begin and end marks are words, also in another case
    // The begin and end tokens, and their ids: as the file says, or CLIP's names. no_token: there are none.
    std::string_view begin_text, end_text;
    std::int32_t begin = no_token, end = no_token;
};

struct Token {
    std::int32_t id;
    std::uint32_t place;  // the byte of the text at which its first character begins
};

// Read the content of a tokenizer.json, whose form is told in the Python runtime's clip_form.py. `where` names the
// file. Codes: file.too-large, those of JSON, tokenizer.form, vocabulary, merges, added-tokens.
Status read_tokenizer(Scope& scope, Arena& arena, std::string_view json, std::string_view where, Tokenizer& out);

// Append the tokens of a text, without begin and end. text: valid UTF-8. Takes time n log n.
Status encode(Scope& scope, const Tokenizer& tokenizer, std::string_view text, Array<Token>& tokens);

// Refuse begin, end and padding tokens of a manifest that the file does not have: manifest.text. And a vocabulary that
// the text encoder does not know: tokenizer.vocabulary.
Status check_ends(Scope& scope, const Tokenizer& tokenizer, std::string_view where, std::int64_t begin,
                  std::int64_t end, std::int64_t pad, std::int64_t vocab_size);

}  // namespace ldm

#endif
