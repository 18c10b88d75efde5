// Strict reading of parsed JSON into structs, as `strict_json.read` of the Python runtime does it: an object has
// exactly the fields of its struct, and every type is checked.
//
// A struct names its fields once, in the order in which they are read, beside its definition:
//
//     struct Range { std::int64_t min, opt, max; };
//
//     template <typename Visitor>
//     void fields(Visitor& visit, Range& it) {
//         visit("min", it.min);
//         visit("opt", it.opt);
//         visit.optional("max", it.max);  // stays as it is where the key is not there
//     }
//
//     json::Reader reader{scope, arena};
//     LDM_TRY(read(reader, value, json::Where("manifest.json", "range"), range));
//
// A field is one of
//     bool, std::int64_t, double (an integer is one too), std::string_view
//     an enum with `constexpr Choices choices(Enum)`: one of those texts, in the order of its values from 0
//     std::optional<X>: X or null           View<X>: a list           Map<X>: an object with any keys
//     const json::Value*: anything          a struct with fields
//     a type of its own with `Status read(json::Reader&, const json::Value&, const json::Where&, Type&)`.
// Codes: json.unknown-key, json.missing-key, json.type, json.number. Texts stay those of the document, whose arena must
// live as long.
#ifndef LDM_CORE_JSON_FIELDS_H
#define LDM_CORE_JSON_FIELDS_H

#include <algorithm>
#include <cstdint>
#include <optional>
#include <string_view>
#include <type_traits>

#include "core/codes.h"
#include "core/json/json.h"
#include "core/json/where.h"
#include "core/memory.h"
#include "core/status.h"

namespace ldm::json {

struct Reader {
    Scope& scope;
    Arena& arena;  // of lists and maps
};

template <typename T>
struct Entry {
    std::string_view key;
    T value;
};

// An object whose keys are anything.
template <typename T>
struct Map {
    View<Entry<T>> entries;      // in the order of the document
    View<std::uint32_t> sorted;  // the entries' places, by key

    static constexpr std::size_t none = static_cast<std::size_t>(-1);

    // The place in `entries`, or `none`.
    std::size_t place_of(std::string_view key) const {
        auto below = [this](std::uint32_t place, std::string_view name) { return entries[place].key < name; };
        const std::uint32_t* found = std::lower_bound(sorted.begin(), sorted.end(), key, below);
        return found != sorted.end() && entries[*found].key == key ? *found : none;
    }
    const T* find(std::string_view key) const {
        std::size_t place = place_of(key);
        return place == none ? nullptr : &entries[place].value;
    }
    std::size_t size() const { return entries.size; }
    const Entry<T>* begin() const { return entries.begin(); }
    const Entry<T>* end() const { return entries.end(); }
};

// The texts of an enum's values.
struct Choices {
    const std::string_view* texts;
    std::size_t count;

    template <std::size_t N>
    constexpr Choices(const std::string_view (&all)[N]) : texts(all), count(N) {}
};

// A value, for a failure's sentence.
Piece shown(const Value& value);
// A whole number that was read, which is the nearest one where it does not fit.
Piece shown(std::int64_t read);

// Refuse a value that is not `expected`: json.type.
Status refuse(Scope& scope, const Value& value, const Where& where, std::string_view expected);

Status read(Reader& reader, const Value& value, const Where& where, bool& out);
Status read(Reader& reader, const Value& value, const Where& where, std::int64_t& out);
Status read(Reader& reader, const Value& value, const Where& where, double& out);
Status read(Reader& reader, const Value& value, const Where& where, std::string_view& out);
Status read(Reader& reader, const Value& value, const Where& where, const Value*& out);
template <typename T>
Status read(Reader& reader, const Value& value, const Where& where, std::optional<T>& out);
template <typename T>
Status read(Reader& reader, const Value& value, const Where& where, View<T>& out);
template <typename T>
Status read(Reader& reader, const Value& value, const Where& where, Map<T>& out);
template <typename T>  // a struct or an enum
Status read(Reader& reader, const Value& value, const Where& where, T& out);

// How many of an object's keys are fields of a struct: what tells the structs of a union apart.
template <typename T>
std::size_t shared_keys(const Value& value);

// ---- The rest of this file is how that is done. ----

// The place of a text among choices; -1 where it is none.
Status read_choice(Scope& scope, const Value& value, const Where& where, Choices choices, std::size_t& out);

// Visits fields and keeps their names.
class Keys {
public:
    template <typename T>
    void operator()(std::string_view name, T&) { keep(name, true); }
    template <typename T>
    void optional(std::string_view name, T&) { keep(name, false); }

    bool has(std::string_view name) const;
    // Require an object with exactly these keys.
    Status check(Scope& scope, const Value& value, const Where& where) const;

private:
    static constexpr std::size_t most = 32;

    void keep(std::string_view name, bool required) {
        if (count_ == most) return;
        names_[count_] = name;
        required_[count_++] = required;
    }

    std::string_view names_[most];
    bool required_[most] = {};
    std::size_t count_ = 0;
};

// Visits fields and reads them. After a failure it reads nothing more.
class Values {
public:
    Values(Reader& reader, const Value& object, const Where& where) : reader_(reader), object_(object), where_(where) {}

    template <typename T>
    void operator()(std::string_view name, T& out) {
        const Value* value = status.ok() ? object_.find(name) : nullptr;
        if (value != nullptr) status = read(reader_, *value, Where(where_, name), out);
    }
    template <typename T>
    void optional(std::string_view name, T& out) { (*this)(name, out); }

    Status status;

private:
    Reader& reader_;
    const Value& object_;
    const Where& where_;
};

template <typename T>
std::size_t shared_keys(const Value& value) {
    T sample{};
    Keys keys;
    fields(keys, sample);
    auto is_field = [&](const Member& member) { return keys.has(member.key); };
    return static_cast<std::size_t>(std::count_if(value.members.begin(), value.members.end(), is_field));
}

template <typename T>
Status read(Reader& reader, const Value& value, const Where& where, std::optional<T>& out) {
    out.reset();
    if (value.kind == Kind::null) return Status();
    return read(reader, value, where, out.emplace());
}

template <typename T>
Status read(Reader& reader, const Value& value, const Where& where, View<T>& out) {
    if (value.kind != Kind::list) return refuse(reader.scope, value, where, "a list");
    T* items = reader.arena.make<T>(value.items.size);
    LDM_NEED(reader.scope, items != nullptr);
    for (std::size_t index = 0; index < value.items.size; ++index) {
        LDM_TRY(read(reader, value.items[index], Where(where, index), items[index]));
    }
    out = {items, value.items.size};
    return Status();
}

template <typename T>
Status read(Reader& reader, const Value& value, const Where& where, Map<T>& out) {
    if (value.kind != Kind::object) return refuse(reader.scope, value, where, "an object");
    std::size_t count = value.members.size;
    auto* entries = reader.arena.make<Entry<T>>(count);
    auto* sorted = reader.arena.make<std::uint32_t>(count);
    LDM_NEED(reader.scope, entries != nullptr && sorted != nullptr);
    for (std::size_t place = 0; place < count; ++place) {
        entries[place].key = value.members[place].key;
        sorted[place] = static_cast<std::uint32_t>(place);
        LDM_TRY(read(reader, value.members[place].value, Where(where, Key{entries[place].key}), entries[place].value));
    }
    std::sort(sorted, sorted + count,
              [=](std::uint32_t a, std::uint32_t b) { return entries[a].key < entries[b].key; });
    out = {{entries, count}, {sorted, count}};
    return Status();
}

template <typename T>
Status read(Reader& reader, const Value& value, const Where& where, T& out) {
    if constexpr (std::is_enum_v<T>) {
        std::size_t place = 0;
        LDM_TRY(read_choice(reader.scope, value, where, choices(T()), place));
        out = static_cast<T>(place);
        return Status();
    } else {
        Keys keys;
        fields(keys, out);
        LDM_TRY(keys.check(reader.scope, value, where));
        Values values(reader, value, where);
        fields(values, out);
        return values.status;
    }
}

}  // namespace ldm::json

#endif
