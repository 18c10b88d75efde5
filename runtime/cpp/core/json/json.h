// Strict JSON (RFC 8259), as the Python runtime reads it: no key twice, no NaN, no half characters, 64 levels at most.
#ifndef LDM_CORE_JSON_JSON_H
#define LDM_CORE_JSON_JSON_H

#include <cstdint>
#include <string_view>

#include "core/memory.h"
#include "core/status.h"

namespace ldm::json {

enum class Kind : unsigned char { null, boolean, integer, real, text, list, object };

struct Member;

// Lives in the arena of the text it was read into.
struct Value {
    Kind kind = Kind::null;
    bool boolean = false;
    std::int64_t integer = 0;  // the nearest one, where it does not fit; its digits are then the text
    double real = 0.0;         // of an integer too
    std::string_view text;     // UTF-8; keys and texts are followed by a NUL, which C needs
    View<Value> items;
    View<Member> members;      // in the order of the text

    const Value* find(std::string_view key) const;  // null: no such key, or no object
};

struct Member {
    std::string_view key;
    Value value;
};

// Read a text into an arena. `where` names the file in messages. Codes: json.encoding, syntax, duplicate-key, number,
// surrogate, depth.
Status parse(Scope& scope, Arena& arena, std::string_view text, std::string_view where, Value& out);

}  // namespace ldm::json

#endif
