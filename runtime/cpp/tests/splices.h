// A change of a few bytes, as the conformance kit writes it: "offset removed inserted-hex result".
#ifndef LDM_TESTS_SPLICES_H
#define LDM_TESTS_SPLICES_H

#include <charconv>
#include <string>
#include <string_view>

#include "tests/check.h"

struct Splice {
    std::size_t offset = 0, removed = 0;
    std::string inserted;
    std::string_view result;

    explicit Splice(std::string_view text) {
        offset = number(word(text));
        removed = number(word(text));
        std::string_view hex = word(text);
        for (std::size_t at = 0; hex != "-" && at + 1 < hex.size(); at += 2) {
            inserted.push_back(static_cast<char>(number(hex.substr(at, 2), 16)));
        }
        result = text;
    }

    std::string applied(std::string content) const { return content.replace(offset, removed, inserted); }

private:
    // Take a word off a text.
    static std::string_view word(std::string_view& text) {
        std::size_t end = text.find(' ');
        std::string_view found = text.substr(0, end);
        text.remove_prefix(end + 1);
        return found;
    }
    static std::size_t number(std::string_view digits, int base = 10) {
        std::size_t value = 0;
        CHECK(std::from_chars(digits.data(), digits.data() + digits.size(), value, base).ec == std::errc());
        return value;
    }
};

#endif
