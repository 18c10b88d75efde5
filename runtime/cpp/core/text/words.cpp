#include "core/text/words.h"

#include <cmath>

#include "core/json/plain.h"
#include "core/text/quoting.h"
#include "core/text/utf8.h"

namespace ldm {

Words& Words::pad(std::size_t start, std::size_t width) {
    for (std::size_t count = utf8::characters(view().substr(start)); count < width; ++count) put(" ");
    return *this;
}

Words& Words::grouped(std::int64_t value) {
    if (value < 10'000) return add(value);
    char digits[24];
    std::string_view text(digits,
                          static_cast<std::size_t>(std::to_chars(digits, digits + sizeof digits, value).ptr - digits));
    for (std::size_t index = 0; index < text.size(); ++index) {
        add(index > 0 && (text.size() - index) % 3 == 0 ? "," : "", text.substr(index, 1));
    }
    return *this;
}

Words& Words::repr(std::string_view text) {
    quoting::quote(text, "", [&](std::string_view character) {
        put(character);
        return fits_;
    });
    return *this;
}

Words& Words::printable(std::string_view text) {
    while (!text.empty()) {
        utf8::Character next = utf8::next(text);
        bool is_plain = next.valid && !utf8::is_unprintable(next.point);
        put(is_plain ? text.substr(0, next.bytes) : quoting::escaped(next.point).view());
        text.remove_prefix(next.bytes);
    }
    return *this;
}

Words& Words::json(std::string_view text) { return json(json::value_of(text)); }

Words& Words::number(double value, std::chars_format format, int digits) {
    if (std::isinf(value)) return add(value < 0 ? "-inf" : "inf");
    char text[400];  // 1e308 has 309 digits
    auto [end, error] = std::to_chars(text, text + sizeof text, value, format, digits);
    if (error == std::errc()) put({text, static_cast<std::size_t>(end - text)});
    return *this;
}

Status Words::keep(Scope& scope, Arena& arena, std::string_view& out) const {
    char* copy = fits_ ? arena.make<char>(text_.size() + 1) : nullptr;
    LDM_NEED(scope, copy != nullptr);
    if (!text_.empty()) std::memcpy(copy, text_.data(), text_.size());
    out = {copy, text_.size()};
    return Status();
}

Status json_text(Scope& scope, Arena& arena, const json::Value& value, std::string_view& out,
                 const json::Style& style) {
    return Words(scope.memory).json(value, style).keep(scope, arena, out);
}

}  // namespace ldm
