#include "core/text/quoting.h"

#include "core/text/unicode.h"

namespace ldm::quoting {

namespace {

constexpr std::size_t most_quoted = 60;  // characters of a prompt in a sentence

// What repr escapes: control and format characters, private use, no characters, white space but the plain space.
bool is_printable(char32_t point) {
    struct Range {
        char32_t first, last;
    };
    static constexpr Range ranges[] = {
        {0x00, 0x1F},       {0x7F, 0xA0},       {0xAD, 0xAD},       {0x600, 0x605},     {0x61C, 0x61C},
        {0x6DD, 0x6DD},     {0x70F, 0x70F},     {0x890, 0x891},     {0x8E2, 0x8E2},     {0x1680, 0x1680},
        {0x180E, 0x180E},   {0x2000, 0x200F},   {0x2028, 0x202F},   {0x205F, 0x206F},   {0x3000, 0x3000},
        {0xD800, 0xF8FF},   {0xFDD0, 0xFDEF},   {0xFEFF, 0xFEFF},   {0xFFF0, 0xFFFB},   {0xFFFE, 0xFFFF},
        {0x110BD, 0x110BD}, {0x110CD, 0x110CD}, {0x13430, 0x1343F}, {0x1BCA0, 0x1BCA3}, {0x1D173, 0x1D17A},
        {0xE0000, 0xE00FF}, {0xE01F0, 0x10FFFF},
    };
    for (const Range& range : ranges) {
        if (point >= range.first && point <= range.last) return false;
    }
    return true;
}

void put(Spelt& out, char byte) { out.text[out.size++] = byte; }

std::string_view without_space_behind(std::string_view text) {
    while (!text.empty()) {
        utf8::Character last = utf8::last(text);
        if (!unicode::is_python_space(last.point)) break;
        text.remove_suffix(last.bytes);
    }
    return text;
}

// A text without its last word, unless that is its only one.
std::string_view without_last_word(std::string_view text) {
    text = without_space_behind(text);
    std::size_t word = text.size();
    while (word > 0) {
        utf8::Character last = utf8::last(text.substr(0, word));
        if (unicode::is_python_space(last.point)) break;
        word -= last.bytes;
    }
    std::string_view before = without_space_behind(text.substr(0, word));
    return before.empty() ? text.substr(word) : before;
}

}  // namespace

Spelt escaped(char32_t point) {
    static constexpr char digits[] = "0123456789abcdef";
    int width = point < 0x100 ? 2 : point < 0x10000 ? 4 : 8;
    Spelt out;
    put(out, '\\');
    put(out, width == 2 ? 'x' : width == 4 ? 'u' : 'U');
    for (int shift = 4 * (width - 1); shift >= 0; shift -= 4) put(out, digits[point >> shift & 15]);
    return out;
}

Spelt spelt(utf8::Character character, char quote) {
    char32_t point = character.point;
    char letter = point == '\n' ? 'n' : point == '\r' ? 'r' : point == '\t' ? 't' : '\0';
    if (point == '\\' || point == static_cast<unsigned char>(quote)) letter = static_cast<char>(point);
    if (letter == '\0' && (!character.valid || !is_printable(point))) return escaped(point);
    Spelt out;
    if (letter == '\0') {
        out.size = utf8::encode(point, out.text);
        return out;
    }
    put(out, '\\');
    put(out, letter);
    return out;
}

char quote_of(std::string_view text) {
    bool has_single = text.find('\'') != std::string_view::npos, has_double = text.find('"') != std::string_view::npos;
    return has_single && !has_double ? '"' : '\'';
}

Beginning beginning(std::string_view text) {
    std::string_view start = utf8::first_characters(text, most_quoted);
    if (start.size() == text.size()) return {text, false};
    bool ends_word = unicode::is_python_space(utf8::next(text.substr(start.size())).point);
    return {ends_word ? without_space_behind(start) : without_last_word(start), true};
}

}  // namespace ldm::quoting
