// Parsed JSON as text, to the byte as Python's `json.dumps` writes it.
#ifndef LDM_CORE_JSON_WRITE_H
#define LDM_CORE_JSON_WRITE_H

#include "core/json/json.h"
#include "core/memory.h"

namespace ldm::json {

struct Style {
    bool is_ascii = true;    // other characters are escaped
    bool is_sorted = false;  // objects by their keys
    bool is_dense = false;   // no spaces
    int indent = -1;         // spaces of a level; -1: all on one line
};

inline constexpr Style canonical_style{true, true, true, -1};  // what digests are made of

// Append the text of a value. False where no memory is left.
[[nodiscard]] bool write(const Value& value, const Style& style, Allocator& memory, Array<char>& out);

// A Spelling of values, for sentences: as Python's `json.dumps`.
std::size_t spell(const void* value, char* out, std::size_t room);

}  // namespace ldm::json

#endif
