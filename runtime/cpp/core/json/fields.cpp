#include "core/json/fields.h"

#include <cmath>

#include "core/json/write.h"

namespace ldm::json {

namespace {

// Texts, parted by ", ", as far as they fit into a sentence.
struct Joined {
    char text[512];
    std::size_t length = 0;

    void add(std::string_view part) {
        if (part.size() + 2 > sizeof text - length) return;
        if (length > 0) length += (std::memcpy(text + length, ", ", 2), 2);
        if (!part.empty()) std::memcpy(text + length, part.data(), part.size());
        length += part.size();
    }
    std::string_view view() const { return {text, length}; }
};

}  // namespace

Piece shown(const Value& value) { return spelt(&value, spell); }

Piece shown(std::int64_t read) {
    constexpr std::int64_t immense = 1'000'000'000'000'000'000;
    return read > -immense && read < immense ? Piece(read) : Piece("an immense number");
}

Status refuse(Scope& scope, const Value& value, const Where& where, std::string_view expected) {
    return fail(scope, where, codes::json_type, {"must be ", expected, "; got ", shown(value)});
}

Status read(Reader& reader, const Value& value, const Where& where, bool& out) {
    if (value.kind != Kind::boolean) return refuse(reader.scope, value, where, "true or false");
    out = value.boolean;
    return Status();
}

Status read(Reader& reader, const Value& value, const Where& where, std::int64_t& out) {
    if (value.kind != Kind::integer) return refuse(reader.scope, value, where, "an integer");
    out = value.integer;
    return Status();
}

Status read(Reader& reader, const Value& value, const Where& where, double& out) {
    if (value.kind != Kind::integer && value.kind != Kind::real) {
        return refuse(reader.scope, value, where, "a number");
    }
    if (!std::isfinite(value.real)) {
        return fail(reader.scope, where, codes::json_number, {"is too large for a float64"});
    }
    out = value.real;
    return Status();
}

Status read(Reader& reader, const Value& value, const Where& where, std::string_view& out) {
    if (value.kind != Kind::text) return refuse(reader.scope, value, where, "a string");
    out = value.text;
    return Status();
}

Status read(Reader&, const Value& value, const Where&, const Value*& out) {
    out = &value;
    return Status();
}

Status read_choice(Scope& scope, const Value& value, const Where& where, Choices choices, std::size_t& out) {
    const std::string_view* end = choices.texts + choices.count;
    const std::string_view* found = value.kind == Kind::text ? std::find(choices.texts, end, value.text) : end;
    if (found != end) {
        out = static_cast<std::size_t>(found - choices.texts);
        return Status();
    }
    Joined known;
    std::for_each(choices.texts, end, [&](std::string_view text) { known.add(text); });
    return fail(scope, where, codes::json_type, {"must be one of ", known.view(), "; got ", shown(value)});
}

bool Keys::has(std::string_view name) const { return std::find(names_, names_ + count_, name) != names_ + count_; }

Status Keys::check(Scope& scope, const Value& value, const Where& where) const {
    if (value.kind != Kind::object) return refuse(scope, value, where, "an object");
    const Member* unknown = nullptr;
    for (const Member& member : value.members) {
        if (!has(member.key) && (unknown == nullptr || member.key < unknown->key)) unknown = &member;
    }
    if (unknown != nullptr) {
        Joined known;
        std::for_each(names_, names_ + count_, [&](std::string_view name) { known.add(name); });
        return fail(scope, where, codes::json_unknown_key,
                    {"has the unknown key ", quoted(unknown->key), "; known here: ", known.view()});
    }
    for (std::size_t index = 0; index < count_; ++index) {
        if (required_[index] && value.find(names_[index]) == nullptr) {
            return fail(scope, where, codes::json_missing_key, {"lacks the key ", quoted(names_[index])});
        }
    }
    return Status();
}

}  // namespace ldm::json
