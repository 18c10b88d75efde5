// Texts that are put together from pieces: sentences of a report, small files.
#ifndef LDM_CORE_TEXT_WORDS_H
#define LDM_CORE_TEXT_WORDS_H

#include <charconv>
#include <string_view>

#include "core/json/json.h"
#include "core/json/write.h"
#include "core/memory.h"
#include "core/status.h"

namespace ldm {

// After it ran out of memory once, nothing more is put, and fits() is false.
class Words {
public:
    explicit Words(Allocator& memory) : memory_(memory), text_(memory) {}

    // Append texts and whole numbers.
    template <typename... Parts>
    Words& add(Parts... parts) {
        (put(parts), ...);
        return *this;
    }
    Words& fixed(double value, int digits) { return number(value, std::chars_format::fixed, digits); }
    Words& scientific(double value, int digits) { return number(value, std::chars_format::scientific, digits); }
    Words& general(double value, int digits) { return number(value, std::chars_format::general, digits); }
    Words& grouped(std::int64_t value);  // from 10,000 on with commas
    Words& repr(std::string_view text);       // in quotes, as Python's repr
    Words& printable(std::string_view text);  // what would command a terminal or hide in it is escaped
    Words& json(const json::Value& value, const json::Style& style = {}) {
        fits_ = fits_ && json::write(value, style, memory_, text_);
        return *this;
    }
    Words& json(std::string_view text);  // as a text of JSON
    // Append spaces up to a width in characters, counted from `start` of the text.
    Words& pad(std::size_t start, std::size_t width);

    std::string_view view() const { return {text_.data(), text_.size()}; }
    bool fits() const { return fits_; }
    // A copy in an arena, which ends with a NUL.
    Status keep(Scope& scope, Arena& arena, std::string_view& out) const;

private:
    void put(std::string_view text) { fits_ = fits_ && text_.append(text.data(), text.size()); }
    void put(const char* text) { put(std::string_view(text)); }
    template <typename T, typename = std::enable_if_t<std::is_integral_v<T>>>
    void put(T number) {
        char digits[24];
        put({digits, static_cast<std::size_t>(std::to_chars(digits, digits + sizeof digits, number).ptr - digits)});
    }
    Words& number(double value, std::chars_format format, int digits);

    Allocator& memory_;
    Array<char> text_;
    bool fits_ = true;
};

// The text of a value as `json.dumps` writes it, in an arena.
Status json_text(Scope& scope, Arena& arena, const json::Value& value, std::string_view& out,
                 const json::Style& style = {});

}  // namespace ldm

#endif
