// UTF-8, read character by character.
#ifndef LDM_CORE_TEXT_UTF8_H
#define LDM_CORE_TEXT_UTF8_H

#include <cstddef>
#include <string_view>

namespace ldm::utf8 {

struct Character {
    char32_t point;      // a Unicode scalar value, if valid
    std::size_t bytes;   // to go on by: of an invalid sequence 1
    bool valid;
};

// The first character of a text that is not empty. Surrogates and overlong forms are invalid.
Character next(std::string_view text);

// The last character of a text that is not empty.
Character last(std::string_view text);

// Write a scalar value and return its bytes, 1 to 4.
std::size_t encode(char32_t point, char out[4]);

// The offset of the first byte that is not UTF-8; the text's size where all is.
std::size_t first_invalid(std::string_view text);

// The longest beginning of at most `bytes` bytes that cuts no character.
std::string_view prefix(std::string_view text, std::size_t bytes);

// The first `count` characters.
std::string_view first_characters(std::string_view text, std::size_t count);

// Whether a byte of a valid text is the first one of a character.
inline bool begins_character(char byte) { return (static_cast<unsigned char>(byte) & 0xC0) != 0x80; }

// How many characters a text has.
std::size_t characters(std::string_view text);

// Control characters but tab and line feed; what turns the direction of writing, ends a line or is not seen, but for
// the joiners, which emoji and scripts need. The same as UNPRINTABLE of the Python runtime.
bool is_unprintable(char32_t point);

}  // namespace ldm::utf8

#endif
