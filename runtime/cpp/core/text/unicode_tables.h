// The layout of unicode_tables.cpp. Ask through core/text/unicode.h.
#ifndef LDM_CORE_TEXT_UNICODE_TABLES_H
#define LDM_CORE_TEXT_UNICODE_TABLES_H

#include <cstddef>
#include <cstdint>

namespace ldm::unicode {

// What a character is. Most share a record with others.
struct Record {
    std::uint8_t flags;
    std::uint8_t combining;  // canonical combining class
    std::int32_t lower;      // what lower case adds to the code point
};

constexpr std::uint8_t letter = 1, number = 2, space = 4, word = 8;      // flags
constexpr std::uint8_t has_pair = 16, is_first = 32, is_second = 64;     // decomposes; begins, ends a composed pair
constexpr std::uint8_t long_lower = 128;                                 // U+0130: its lower case is two characters

// A canonical decomposition of one level; second is 0 where there is only one character.
struct Pair {
    std::uint32_t point, first, second;
};

constexpr std::size_t block_size = 128;

extern const Record records[];
extern const std::size_t blocks;
extern const std::uint8_t block_of[];   // of code point / block_size; beyond `blocks` as the last one
extern const std::uint8_t record_of[];  // of block * block_size + code point % block_size
extern const std::size_t pair_count;
extern const Pair pairs[];  // by code point
extern const std::size_t composed_count;
extern const std::uint16_t composed[];  // places in `pairs` of those that compose, by first and second

}  // namespace ldm::unicode

#endif
