// Text that grows: pieces of sentences and of small files.
#ifndef LDM_FILES_TEXT_H
#define LDM_FILES_TEXT_H

#include <charconv>
#include <string_view>

#include "core/memory.h"

namespace ldm::files {

// After it ran out of memory once, nothing more is put, and fits() is false.
class Text {
public:
    explicit Text(Allocator& memory) : text_(memory) {}

    void put(std::string_view text) { fits_ = fits_ && text_.append(text.data(), text.size()); }
    template <typename T>
    void number(T value) {
        char digits[24];
        put({digits, static_cast<std::size_t>(std::to_chars(digits, digits + sizeof digits, value).ptr - digits)});
    }
    // As a text of JSON.
    void quoted(std::string_view text) {
        put("\"");
        for (char each : text) {
            auto code = static_cast<unsigned char>(each);
            char escape[] = {'\\', 'u', '0', '0', "0123456789abcdef"[code >> 4], "0123456789abcdef"[code & 15]};
            bool is_plain = code >= 0x20 && each != '"' && each != '\\';
            put(is_plain ? std::string_view(&each, 1) : std::string_view(escape, sizeof escape));
        }
        put("\"");
    }

    bool fits() const { return fits_; }
    std::string_view view() const { return {text_.data(), text_.size()}; }

private:
    Array<char> text_;
    bool fits_ = true;
};

}  // namespace ldm::files

#endif
