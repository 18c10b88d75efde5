#include "core/json/write.h"

#include <algorithm>
#include <charconv>
#include <string_view>

#include "core/text/numbers.h"
#include "core/text/utf8.h"

namespace ldm::json {

namespace {

// Text of which no more is kept than there is room for, and a byte more where it is longer.
struct Beginning {
    char* text;
    std::size_t room, size = 0;

    bool append(const char* part, std::size_t bytes) {
        std::size_t kept = std::min(bytes, room - size);
        std::copy_n(part, kept, text + size);
        size += bytes;
        return size <= room;
    }
};

// out: what takes text, until it takes no more.
template <typename Out>
class Writer {
public:
    Writer(const Style& style, Allocator& memory, Out& out) : style_(style), memory_(memory), out_(out) {}

    void put(const Value& value, int depth) {
        switch (value.kind) {
            case Kind::null: return put("null");
            case Kind::boolean: return put(value.boolean ? "true" : "false");
            case Kind::integer: return value.text.empty() ? put_integer(value.integer) : put(value.text);
            case Kind::real: return put(numbers::shortest(value.real).view());
            case Kind::text: return put_text(value.text);
            case Kind::list:
                return put_items('[', ']', value.items.size, depth,
                                 [&](std::size_t index) { put(value.items[index], depth + 1); });
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
        if (!style_.is_sorted) {
            return put_items('{', '}', members.size, depth,
                             [&](std::size_t index) { put_member(members[index], depth); });
        }
        Array<const Member*> order(memory_);
        fits_ = fits_ && order.reserve(members.size);
        for (const Member& member : members) fits_ = fits_ && order.push(&member);
        if (!fits_) return;
        std::sort(order.begin(), order.end(), [](const Member* a, const Member* b) { return a->key < b->key; });
        put_items('{', '}', order.size(), depth, [&](std::size_t index) { put_member(*order[index], depth); });
    }

    void put_member(const Member& member, int depth) {
        put_text(member.key);
        put(style_.is_dense ? ":" : ": ");
        put(member.value, depth + 1);
    }

    template <typename PutItem>
    void put_items(char first, char last, std::size_t count, int depth, PutItem put_item) {
        put({&first, 1});
        for (std::size_t index = 0; index < count && fits_; ++index) {
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
        while (!text.empty() && fits_) {
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
    Out& out_;
    bool fits_ = true;
};

}  // namespace

bool write(const Value& value, const Style& style, Allocator& memory, Array<char>& out) {
    Writer writer(style, memory, out);
    writer.put(value, 0);
    return writer.fits();
}

std::size_t spell(const void* value, char* out, std::size_t room) {
    Style style;
    Allocator none{};  // it is asked for sorted objects alone
    Beginning text{out, room};
    Writer writer(style, none, text);
    writer.put(*static_cast<const Value*>(value), 0);
    return text.size;
}

}  // namespace ldm::json
