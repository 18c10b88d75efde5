#include "core/json/write.h"

#include <algorithm>
#include <charconv>
#include <string_view>

#include "core/text/numbers.h"
#include "core/text/utf8.h"

namespace ldm::json {

namespace {

class Writer {
public:
    Writer(const Style& style, Allocator& memory, Array<char>& out) : style_(style), memory_(memory), out_(out) {}

    void put(const Value& value, int depth) {
        switch (value.kind) {
            case Kind::null: return put("null");
            case Kind::boolean: return put(value.boolean ? "true" : "false");
            case Kind::integer: return put_integer(value.integer);
            case Kind::real: return put(numbers::shortest(value.real).view());
            case Kind::text: return put_text(value.text);
            case Kind::list:
                return put_items('[', ']', value.items.size, depth, [&](std::size_t index) { put(value.items[index], depth + 1); });
            case Kind::object: return put_object(value.members, depth);
        }
    }
    bool fits() const { return fits_; }

private:
    void put(std::string_view text) { fits_ = fits_ && out_.append(text.data(), text.size()); }

    void put_integer(std::int64_t value) {
        char digits[24];
        put({digits, static_cast<std::size_t>(std::to_chars(digits, digits + sizeof digits, value).ptr - digits)});
    }

    void put_object(View<Member> members, int depth) {
        Array<const Member*> order(memory_);
        fits_ = fits_ && order.reserve(members.size);
        for (const Member& member : members) fits_ = fits_ && order.push(&member);
        if (!fits_) return;
        if (style_.is_sorted) {
            std::sort(order.begin(), order.end(), [](const Member* a, const Member* b) { return a->key < b->key; });
        }
        put_items('{', '}', order.size(), depth, [&](std::size_t index) {
            put_text(order[index]->key);
            put(style_.is_dense ? ":" : ": ");
            put(order[index]->value, depth + 1);
        });
    }

    template <typename PutItem>
    void put_items(char first, char last, std::size_t count, int depth, PutItem put_item) {
        put({&first, 1});
        for (std::size_t index = 0; index < count; ++index) {
            if (index > 0) put(style_.is_dense || style_.indent >= 0 ? "," : ", ");
            break_line(depth + 1);
            put_item(index);
        }
        if (count > 0) break_line(depth);
        put({&last, 1});
    }

    void break_line(int depth) {
        if (style_.indent < 0) return;
        put("\n");
        for (int space = 0; space < style_.indent * depth; ++space) put(" ");
    }

    void put_text(std::string_view text) {
        put("\"");
        while (!text.empty()) {
            utf8::Character next = utf8::next(text);
            put_character(next.point, text.substr(0, next.bytes));
            text.remove_prefix(next.bytes);
        }
        put("\"");
    }

    void put_character(char32_t character, std::string_view bytes) {
        switch (character) {
            case '"': return put("\\\"");
            case '\\': return put("\\\\");
            case '\n': return put("\\n");
            case '\r': return put("\\r");
            case '\t': return put("\\t");
            case '\f': return put("\\f");
            case '\b': return put("\\b");
            default: break;
        }
        bool is_plain = character >= 0x20 && (!style_.is_ascii || character < 0x7F);
        if (is_plain) return put(bytes);
        if (character < 0x10000) return put_escape(character);
        put_escape(0xD800 + ((character - 0x10000) >> 10));
        put_escape(0xDC00 + ((character - 0x10000) & 0x3FF));
    }

    void put_escape(char32_t unit) {
        char escape[6] = {'\\', 'u'};
        for (int digit = 0; digit < 4; ++digit) escape[5 - digit] = "0123456789abcdef"[unit >> 4 * digit & 15];
        put({escape, sizeof escape});
    }

    const Style& style_;
    Allocator& memory_;
    Array<char>& out_;
    bool fits_ = true;
};

}  // namespace

bool write(const Value& value, const Style& style, Allocator& memory, Array<char>& out) {
    Writer writer(style, memory, out);
    writer.put(value, 0);
    return writer.fits();
}

}  // namespace ldm::json
