#include "core/package/protobuf.h"

namespace ldm::protobuf {

bool take_number(std::string_view& text, Number& out) {
    constexpr std::size_t most = 10;  // bytes
    out = Number();
    for (std::size_t index = 0; index < most && index < text.size(); ++index) {
        auto byte = static_cast<unsigned char>(text[index]);
        std::uint64_t bits = byte & 127;
        out.value |= bits << 7 * index;
        out.is_beyond = index == most - 1 && bits > 1;
        if (byte < 128) {
            text.remove_prefix(index + 1);
            return true;
        }
    }
    return false;
}

bool Fields::next(Field& out) {
    if (rest_.empty() || is_malformed_) return false;
    is_malformed_ = !read(out);
    return !is_malformed_;
}

bool Fields::read(Field& out) {
    Number tag, length;
    if (!take_number(rest_, tag)) return false;
    out.number = tag.is_beyond ? static_cast<std::uint64_t>(-1) : tag.value >> 3;
    out.kind = static_cast<Kind>(tag.value & 7);
    std::string_view start = rest_;
    switch (out.kind) {
        case Kind::number: {
            if (!take_number(rest_, length)) return false;
            out.content = start.substr(0, start.size() - rest_.size());
            return true;
        }
        case Kind::eight_bytes: length.value = 8; break;
        case Kind::four_bytes: length.value = 4; break;
        case Kind::bytes:
            if (!take_number(rest_, length) || length.is_beyond) return false;
            break;
        default: return false;
    }
    if (length.value > rest_.size()) return false;
    out.content = rest_.substr(0, static_cast<std::size_t>(length.value));
    rest_.remove_prefix(out.content.size());
    return true;
}

}  // namespace ldm::protobuf
