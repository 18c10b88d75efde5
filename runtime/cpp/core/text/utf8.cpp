#include "core/text/utf8.h"

#include <cstdint>
#include <cstring>

namespace ldm::utf8 {

Character next(std::string_view text) {
    auto byte = [&](std::size_t index) { return static_cast<unsigned char>(text[index]); };
    unsigned char first = byte(0);
    if (first < 0x80) return {first, 1, true};
    std::size_t bytes = first >= 0xF0 ? 4 : first >= 0xE0 ? 3 : 2;
    if (first < 0xC2 || first > 0xF4 || text.size() < bytes) return {first, 1, false};
    char32_t point = first & (0x7F >> bytes);
    for (std::size_t index = 1; index < bytes; ++index) {
        if ((byte(index) & 0xC0) != 0x80) return {first, 1, false};
        point = point << 6 | (byte(index) & 0x3F);
    }
    bool overlong = (bytes == 3 && point < 0x800) || (bytes == 4 && point < 0x10000);
    if (overlong || point > 0x10FFFF || (point >= 0xD800 && point < 0xE000)) return {first, 1, false};
    return {point, bytes, true};
}

Character last(std::string_view text) {
    std::size_t start = text.size() - 1;
    while (start > 0 && text.size() - start < 4 && !begins_character(text[start])) --start;
    Character read = next(text.substr(start));
    return start + read.bytes == text.size() ? read : next(text.substr(text.size() - 1));
}

std::size_t encode(char32_t point, char out[4]) {
    if (point < 0x80) {
        out[0] = static_cast<char>(point);
        return 1;
    }
    std::size_t bytes = point < 0x800 ? 2 : point < 0x10000 ? 3 : 4;
    for (std::size_t index = bytes - 1; index > 0; --index) {
        out[index] = static_cast<char>(0x80 | (point & 0x3F));
        point >>= 6;
    }
    static constexpr unsigned char heads[] = {0, 0, 0xC0, 0xE0, 0xF0};
    out[0] = static_cast<char>(heads[bytes] | point);
    return bytes;
}

std::size_t first_invalid(std::string_view text) {
    std::size_t at = 0;
    while (at < text.size()) {
        std::uint64_t eight = 0;
        if (text.size() - at >= sizeof eight) {
            std::memcpy(&eight, text.data() + at, sizeof eight);
            if ((eight & 0x8080808080808080u) == 0) {  // ASCII
                at += sizeof eight;
                continue;
            }
        }
        Character read = next({text.data() + at, text.size() - at});
        if (!read.valid) return at;
        at += read.bytes;
    }
    return at;
}

std::string_view prefix(std::string_view text, std::size_t bytes) {
    if (text.size() <= bytes) return text;
    while (bytes > 0 && !begins_character(text[bytes])) --bytes;
    return {text.data(), bytes};
}

std::string_view first_characters(std::string_view text, std::size_t count) {
    std::size_t at = 0;
    for (; count > 0 && at < text.size(); --count) at += next({text.data() + at, text.size() - at}).bytes;
    return {text.data(), at};
}

std::size_t characters(std::string_view text) {
    std::size_t count = 0;
    for (char byte : text) count += begins_character(byte);
    return count;
}

bool is_unprintable(char32_t point) {
    struct Range {
        char32_t first, last;
    };
    static constexpr Range ranges[] = {
        {0x00, 0x08},     {0x0B, 0x1F},     {0x7F, 0x9F},     {0xAD, 0xAD},     {0x61C, 0x61C},
        {0x180E, 0x180E}, {0x200B, 0x200B}, {0x200E, 0x200F}, {0x2028, 0x202E}, {0x2060, 0x206F},
        {0xFEFF, 0xFEFF}, {0xFFF9, 0xFFFB}, {0xE0000, 0xE007F},
    };
    for (const Range& range : ranges) {
        if (point >= range.first && point <= range.last) return true;
    }
    return false;
}

}  // namespace ldm::utf8
