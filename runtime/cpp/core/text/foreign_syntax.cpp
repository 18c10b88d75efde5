#include "core/text/foreign_syntax.h"

#include "core/text/unicode.h"
#include "core/text/utf8.h"

namespace ldm {

namespace {

constexpr std::size_t none = std::string_view::npos;

// A text that is looked through from a place on. Places are bytes.
struct Text {
    std::string_view all;

    std::string_view from(std::size_t at) const { return {all.data() + at, all.size() - at}; }
    std::string_view part(std::size_t first, std::size_t end) const { return {all.data() + first, end - first}; }
    bool has(std::size_t at, std::string_view word) const { return from(at).substr(0, word.size()) == word; }
    char32_t after(std::size_t at) const { return at < all.size() ? utf8::next(from(at)).point : 0; }
    char32_t before(std::size_t at) const {
        if (at == 0) return 0;
        std::size_t start = at - 1;
        while (start > 0 && (static_cast<unsigned char>(all[start]) & 0xC0) == 0x80) --start;
        return utf8::next(from(start)).point;
    }
    bool is_word_before(std::size_t at) const { return at > 0 && unicode::is_word(before(at)); }
    bool is_word_after(std::size_t at) const { return at < all.size() && unicode::is_word(after(at)); }
    bool is_space_before(std::size_t at) const { return at > 0 && unicode::is_python_space(before(at)); }
    bool is_space_after(std::size_t at) const { return at < all.size() && unicode::is_python_space(after(at)); }
};

bool is_digit(char byte) { return byte >= '0' && byte <= '9'; }

std::string_view stripped(std::string_view text) {
    auto is_space = [](char byte) { return byte == ' ' || (byte >= '\t' && byte <= '\r'); };
    while (!text.empty() && is_space(text.front())) text.remove_prefix(1);
    while (!text.empty() && is_space(text.back())) text.remove_suffix(1);
    return text;
}

// "1", "1.", "1.5", ".5", white space around. `fraction`: it needs a point and a digit behind it.
bool is_number(std::string_view text, bool fraction) {
    text = stripped(text);
    std::size_t whole = 0;
    while (whole < text.size() && is_digit(text[whole])) ++whole;
    if (whole == text.size()) return whole > 0 && !fraction;
    if (text[whole] != '.') return false;
    for (std::size_t at = whole + 1; at < text.size(); ++at) {
        if (!is_digit(text[at])) return false;
    }
    std::size_t behind = text.size() - whole - 1;
    return fraction ? behind > 0 : whole > 0 || behind > 0;
}

// What a kind of syntax is at a place: its end, or `none`.
using Match = std::size_t (*)(const Text& text, std::size_t at);

// The end of the brackets that open at a place and hold no others of their kind.
std::size_t closing(const Text& text, std::size_t at, const char (&brackets)[3]) {
    std::size_t end = text.all.find_first_of(brackets, at + 1);
    return end != none && text.all[end] == brackets[1] ? end + 1 : none;
}

std::size_t network(const Text& text, std::size_t at) {
    for (std::string_view kind : {"<lora:", "<lyco:", "<hypernet:"}) {
        if (text.has(at, kind)) return closing(text, at, "<>") == none ? none : closing(text, at, "<>");
    }
    return none;
}

bool opens(const Text& text, std::size_t at, char bracket) {
    return text.all[at] == bracket && (at == 0 || text.all[at - 1] != '\\');
}

// [red:blue:0.5] and [red:0.5], but not [note: 3], which is prose.
std::size_t switching(const Text& text, std::size_t at) {
    std::size_t end = opens(text, at, '[') ? closing(text, at, "[]") : none;
    if (end == none) return none;
    std::string_view inside = text.part(at + 1, end - 1);
    std::size_t colon = inside.rfind(':');
    if (colon == none || !is_number(inside.substr(colon + 1), false)) return none;
    std::size_t place = at + 1 + colon;
    bool is_tight = colon > 0 && !text.is_space_before(place) && !text.is_space_after(place + 1);
    bool is_second = inside.substr(0, colon).find(':') != none;
    return is_tight || is_second ? end : none;
}

std::size_t turns(const Text& text, std::size_t at) {
    std::size_t end = opens(text, at, '[') ? closing(text, at, "[]") : none;
    return end != none && text.part(at, end).find('|') != none ? end : none;
}

std::size_t choice(const Text& text, std::size_t at) {
    std::size_t end = text.all[at] == '{' ? closing(text, at, "{}") : none;
    return end != none && text.part(at, end).find('|') != none ? end : none;
}

bool is_capital(char byte) { return byte >= 'A' && byte <= 'Z'; }

// AND, but not between two words in capitals.
std::size_t combined(const Text& text, std::size_t at) {
    std::size_t end = at + 3;
    if (!text.has(at, "AND") || text.is_word_before(at) || text.is_word_after(end)) return none;
    bool capital_before = at >= 2 && text.is_space_before(at) && is_capital(text.all[at - 2]);
    std::size_t next = end;
    while (text.is_space_after(next)) next += utf8::next(text.from(next)).bytes;
    bool capitals_after = next > end && next + 1 < text.all.size() && is_capital(text.all[next]) && is_capital(text.all[next + 1]);
    return capital_before && capitals_after ? none : end;
}

std::size_t signed_weight(const Text& text, std::size_t at) {
    if (text.all[at] != ':') return none;
    std::size_t place = at + 1;
    auto skip_spaces = [&] {
        while (text.is_space_after(place)) place += utf8::next(text.from(place)).bytes;
    };
    skip_spaces();
    if (place >= text.all.size() || (text.all[place] != '+' && text.all[place] != '-')) return none;
    std::size_t number = ++place;
    while (place < text.all.size() && (is_digit(text.all[place]) || text.all[place] == '.')) ++place;
    if (place == number) return none;
    skip_spaces();
    return place < text.all.size() && text.all[place] == ')' ? place + 1 : none;
}

// __colours__, but not Python's own names.
std::size_t filled_in(const Text& text, std::size_t at) {
    constexpr std::size_t most = 64;  // characters
    if (!text.has(at, "__") || text.is_word_before(at)) return none;
    for (std::string_view own : {"init__", "main__", "doc__", "dict__"}) {
        if (text.has(at + 2, own)) return none;
    }
    std::size_t place = at + 2;
    for (std::size_t count = 0; count <= most && place < text.all.size(); ++count) {
        if (count > 0 && text.has(place, "__") && !text.is_word_after(place + 2)) return place + 2;
        char byte = text.all[place];
        bool is_part = byte == '/' || byte == '.' || byte == '*' || byte == '-' || text.is_word_after(place);
        if (!is_part) return none;
        place += utf8::next(text.from(place)).bytes;
    }
    return none;
}

// (red:1.3), but not (16:9), (Genesis 1:3) and (see fig: 2), which are prose.
std::size_t weighted(const Text& text, std::size_t at) {
    std::size_t end = text.all[at] == '(' ? closing(text, at, "()") : none;
    if (end == none) return none;
    std::string_view inside = text.part(at + 1, end - 1);
    std::size_t colon = inside.rfind(':');
    if (colon == none) return none;
    std::string_view before = stripped(inside.substr(0, colon)), behind = inside.substr(colon + 1);
    bool is_tight = !before.empty() && !is_digit(before.back()) && !text.is_space_after(at + 2 + colon);
    return (is_tight && is_number(behind, false)) || is_number(behind, true) ? end : none;
}

std::size_t plain_break(const Text& text, std::size_t at) {
    std::size_t end = at + 5;
    bool is_alone = text.has(at, "BREAK") && (at == 0 || text.is_space_before(at)) &&
                    (end == text.all.size() || text.is_space_after(end));
    return is_alone ? end : none;
}

std::size_t tight_break(const Text& text, std::size_t at) {
    std::size_t end = at + 5;
    if (!text.has(at, "BREAK") || text.is_word_before(at) || text.is_word_after(end)) return none;
    bool is_tight = (at > 0 && !text.is_space_before(at)) || (end < text.all.size() && !text.is_space_after(end));
    return is_tight ? end : none;
}

struct Foreign {
    Match match;
    std::string_view syntax;  // "" in both
    std::string_view reason;
};

constexpr Foreign table[] = {
    {network, "", "prompts load no networks"},
    {switching, "", "a prompt stays the same for all steps"},
    {turns, "", "words do not take turns"},
    {combined, "", "prompts are not combined"},
    {signed_weight, "", "a weight has no sign"},
    {choice, "", "nothing is chosen at random"},
    {filled_in, "", "nothing is filled in"},
    {weighted, "plain", "weights need the weighted syntax"},
    {plain_break, "plain", "BREAK needs the weighted syntax"},
    {tight_break, "weighted", "BREAK needs white space on both sides"},
};

}  // namespace

Status note_foreign_syntax(Scope& scope, std::string_view name, std::string_view prompt, std::string_view syntax,
                           Notices& notices) {
    Text text{prompt};
    for (const Foreign& each : table) {
        if (!each.syntax.empty() && each.syntax != syntax) continue;
        for (std::size_t at = 0; at < prompt.size(); ++at) {
            std::size_t end = each.match(text, at);
            if (end == none) continue;
            LDM_TRY(notices.add(scope, "text", {quoted(text.part(at, end)), " in ", name, " is read as words: ", each.reason}));
            break;
        }
    }
    return Status();
}

}  // namespace ldm
