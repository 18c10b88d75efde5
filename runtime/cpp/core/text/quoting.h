// Texts in quotes, as Python's repr spells them, so that sentences are the same in every implementation of the runtime.
#ifndef LDM_CORE_TEXT_QUOTING_H
#define LDM_CORE_TEXT_QUOTING_H

#include <cstddef>
#include <string_view>

#include "core/text/utf8.h"

namespace ldm::quoting {

// A character as it stands between quotes.
struct Spelt {
    char text[12];
    std::size_t size = 0;
    std::string_view view() const { return {text, size}; }
};

// A character by its number: \x1b, \u202e, \U000e0001.
Spelt escaped(char32_t point);

// A character between quotes of that kind.
Spelt spelt(utf8::Character character, char quote);

// ' unless the text has one of these and no ".
char quote_of(std::string_view text);

// Hand a text in quotes to `put`, character by character, as long as it returns true. rest: follows the text as it is.
template <typename Put>
void quote(std::string_view text, std::string_view rest, Put put) {
    char mark = quote_of(text);
    auto put_all = [&](std::string_view characters) {
        for (std::size_t at = 0, bytes = 0; at < characters.size(); at += bytes) {
            bytes = utf8::next(characters.substr(at)).bytes;
            if (!put(characters.substr(at, bytes))) return false;
        }
        return true;
    };
    bool goes_on = put_all({&mark, 1});
    while (goes_on && !text.empty()) {
        utf8::Character read = utf8::next(text);
        goes_on = put_all(spelt(read, mark).view());
        text.remove_prefix(read.bytes);
    }
    if (goes_on && put_all(rest)) put_all({&mark, 1});
}

// How many characters a text in quotes has, counted up to a most.
inline std::size_t quoted_length(std::string_view text, std::size_t most) {
    std::size_t count = 0;
    quote(text, "", [&](std::string_view) { return ++count < most; });
    return count;
}

// The beginning of a long text, up to the end of a word, as far as a sentence quotes it.
struct Beginning {
    std::string_view text;
    bool is_cut = false;
};
Beginning beginning(std::string_view text);

}  // namespace ldm::quoting

#endif
