// What CLIP's tokenizer knows of Unicode: NFC, white space, lower case, and which characters make words. The tables are
// those of the `tokenizers` library, which has several versions of Unicode.
#ifndef LDM_CORE_TEXT_UNICODE_H
#define LDM_CORE_TEXT_UNICODE_H

#include <cstdint>
#include <string_view>

#include "core/memory.h"
#include "core/status.h"

namespace ldm::unicode {

enum class Character : unsigned char { letter, number, space, other };

Character kind(char32_t point);

// Part of a word: a letter, mark, digit, connector or joiner.
bool is_word(char32_t point);

// What Python's regular expressions call \w and \d: a letter, number or "_"; a digit of a decimal system.
bool is_python_word(char32_t point);
bool is_decimal_digit(char32_t point);

// White space of Python's str.split and str.strip: the tokenizer's, and four separators of ASCII.
bool is_python_space(char32_t point);

// A text in normal form, UTF-8: NFC, with single spaces and in lower case.
struct Normal {
    explicit Normal(Allocator& memory) : text(memory), origin(memory) {}

    std::string_view view() const { return {text.data(), text.size()}; }

    Array<char> text;
    Array<std::uint32_t> origin;  // for each byte: where the character that it comes from begins in the text
};

// text: valid UTF-8 of less than 4 GB. Takes time n log n, whatever the text is.
Status normalise(Scope& scope, std::string_view text, Normal& out);

}  // namespace ldm::unicode

#endif
