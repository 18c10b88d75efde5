// Structs as parsed JSON: what `read` of fields.h reads them from, as `strict_json.plain` of the Python runtime makes
// it. The fields are those that a struct names there. A type with a `read` of its own has a `plain` of its own:
//
//     Status plain(json::Reader&, const Type&, json::Value&);
#ifndef LDM_CORE_JSON_PLAIN_H
#define LDM_CORE_JSON_PLAIN_H

#include "core/json/fields.h"

namespace ldm::json {

Value value_of(bool value);
Value value_of(std::int64_t value);
Value value_of(double value);
Value value_of(std::string_view value);
Value value_of(const Value* value);  // null for a null pointer

// Equal in kind and content: 1 is not 1.0. The order of an object's keys does not count.
bool are_equal(const Value& first, const Value& second);

// Lists and objects are in the reader's arena, texts stay where they are.
template <typename T>  // what `value_of` takes, an enum, or a struct, without the optional fields that have their
                       // default
                       Status plain(Reader& reader, const T& value, Value& out);
template <typename T>
Status plain(Reader& reader, const std::optional<T>& value, Value& out);
template <typename T>
Status plain(Reader& reader, const View<T>& values, Value& out);
template <typename T>
Status plain(Reader& reader, const Map<T>& map, Value& out);

// A struct with all of its fields, also the optional ones.
template <typename T>
Status plain_whole(Reader& reader, const T& value, Value& out);

// ---- The rest of this file is how that is done. ----

// Visits fields and collects them.
class Members {
public:
    // defaults: what an optional field is left out with; null leaves out nothing.
    Members(Reader& reader, const Value* defaults)
        : members_(reader.scope.memory), reader_(reader), defaults_(defaults) {}

    template <typename T>
    void operator()(std::string_view name, T& field) {
        Value value;
        if (status.ok()) status = plain(reader_, static_cast<const T&>(field), value);
        keep(name, value);
    }
    template <typename T>
    void optional(std::string_view name, T& field) {
        Value value;
        if (status.ok()) status = plain(reader_, static_cast<const T&>(field), value);
        const Value* usual = defaults_ == nullptr ? nullptr : defaults_->find(name);
        if (usual == nullptr || !are_equal(value, *usual)) keep(name, value);
    }
    Status finish(Value& out);

    Status status;

private:
    void keep(std::string_view name, const Value& value);

    Array<Member> members_;
    Reader& reader_;
    const Value* defaults_;
};

template <typename T>
Status plain_whole(Reader& reader, const T& value, Value& out) {
    T copy = value;  // visitors take what they may write to
    Members members(reader, nullptr);
    fields(members, copy);
    return members.finish(out);
}

template <typename T>
Status plain(Reader& reader, const std::optional<T>& value, Value& out) {
    out = Value();
    return value.has_value() ? plain(reader, *value, out) : Status();
}

template <typename T>
Status plain(Reader& reader, const View<T>& values, Value& out) {
    auto* items = reader.arena.make<Value>(values.size);
    LDM_NEED(reader.scope, items != nullptr);
    for (std::size_t index = 0; index < values.size; ++index) LDM_TRY(plain(reader, values[index], items[index]));
    out = Value();
    out.kind = Kind::list;
    out.items = {items, values.size};
    return Status();
}

template <typename T>
Status plain(Reader& reader, const Map<T>& map, Value& out) {
    auto* members = reader.arena.make<Member>(map.size());
    LDM_NEED(reader.scope, members != nullptr);
    std::size_t count = 0;
    for (const Entry<T>& entry : map) {
        members[count].key = entry.key;
        LDM_TRY(plain(reader, entry.value, members[count++].value));
    }
    out = Value();
    out.kind = Kind::object;
    out.members = {members, count};
    return Status();
}

template <typename T>
Status plain(Reader& reader, const T& value, Value& out) {
    constexpr bool is_text = std::is_same_v<T, std::string_view>;
    if constexpr (std::is_arithmetic_v<T> || std::is_pointer_v<T> || is_text) {
        out = value_of(value);
        return Status();
    } else if constexpr (std::is_enum_v<T>) {
        out = value_of(Choices(choices(T())).texts[static_cast<std::size_t>(value)]);
        return Status();
    } else {
        Value defaults;
        LDM_TRY(plain_whole(reader, T(), defaults));
        T copy = value;
        Members members(reader, &defaults);
        fields(members, copy);
        return members.finish(out);
    }
}

}  // namespace ldm::json

#endif
