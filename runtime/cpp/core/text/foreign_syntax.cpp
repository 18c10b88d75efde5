#include "core/text/foreign_syntax.h"

#include "core/text/quoting.h"
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
    char32_t before(std::size_t at) const { return at > 0 ? utf8::last(all.substr(0, at)).point : 0; }
    bool is_word_before(std::size_t at) const { return at > 0 && unicode::is_python_word(before(at)); }
    bool is_word_after(std::size_t at) const { return at < all.size() && unicode::is_python_word(after(at)); }
    bool is_space_before(std::size_t at) const { return at > 0 && unicode::is_python_space(before(at)); }
    bool is_space_after(std::size_t at) const { return at < all.size() && unicode::is_python_space(after(at)); }
};

// A text without the characters of a kind that it begins with.
template <typename Is>
std::string_view behind(std::string_view text, Is is) {
    while (!text.empty()) {
        utf8::Character first = utf8::next(text);
        if (!is(first.point)) break;
        text.remove_prefix(first.bytes);
    }
    return text;
}

std::string_view behind_spaces(std::string_view text) { return behind(text, unicode::is_python_space); }

// "1", "1.", "1.5", ".5", white space around. `fraction`: it needs a point and a digit behind it.
bool is_decimal(std::string_view text, bool fraction) {
    text = behind_spaces(text);
    std::string_view rest = behind(text, unicode::is_decimal_digit);
    bool has_whole = rest.size() < text.size(), has_point = !rest.empty() && rest.front() == '.', has_fraction = false;
    if (has_point) {
        rest.remove_prefix(1);
        std::string_view end = behind(rest, unicode::is_decimal_digit);
        has_fraction = end.size() < rest.size();
        rest = end;
    }
    return behind_spaces(rest).empty() && (has_fraction || (has_whole && !fraction));
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
        if (text.has(at, kind)) return closing(text, at, "<>");
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
    if (colon == none || !is_decimal(inside.substr(colon + 1), false)) return none;
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
    std::string_view before = text.part(0, at);
    if (!before.empty()) before.remove_suffix(utf8::last(before).bytes);
    bool capital_before = text.is_space_before(at) && !before.empty() && is_capital(before.back());
    std::string_view next = behind_spaces(text.from(end));
    bool capitals_after = text.is_space_after(end) && next.size() > 1 && is_capital(next[0]) && is_capital(next[1]);
    return capital_before && capitals_after ? none : end;
}

std::size_t signed_weight(const Text& text, std::size_t at) {
    if (text.all[at] != ':') return none;
    std::string_view rest = behind_spaces(text.from(at + 1));
    if (rest.empty() || (rest.front() != '+' && rest.front() != '-')) return none;
    rest.remove_prefix(1);
    std::string_view end =
        behind(rest, [](char32_t point) { return point == '.' || unicode::is_decimal_digit(point); });
    if (end.size() == rest.size()) return none;
    end = behind_spaces(end);
    return !end.empty() && end.front() == ')' ? text.all.size() - end.size() + 1 : none;
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
    std::string_view behind_colon = inside.substr(colon + 1);
    std::size_t word = at + 1 + colon;  // what is before the colon and its white space ends here
    while (text.is_space_before(word)) word -= utf8::last(text.part(0, word)).bytes;
    bool is_tight =
        word > at + 1 && !unicode::is_decimal_digit(text.before(word)) && !text.is_space_after(at + 2 + colon);
    return (is_tight && is_decimal(behind_colon, false)) || is_decimal(behind_colon, true) ? end : none;
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
    {weighted, "plain", "weights need the weighted syntax (--weighted)"},
    {plain_break, "plain", "BREAK needs the weighted syntax (--weighted)"},
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
            quoting::Beginning what = quoting::beginning(text.part(at, end));
            LDM_TRY(
                notices.add(scope, "text",
                            {quoted_whole(what.text, what.is_cut), " in ", name, " is read as words: ", each.reason}));
            break;
        }
    }
    return Status();
}

}  // namespace ldm
