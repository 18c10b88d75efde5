// A place in a document, for a failure's sentence. Each level is a value on the stack that points at the one above it,
// so a place costs nothing until it has to be told.
#ifndef LDM_CORE_JSON_WHERE_H
#define LDM_CORE_JSON_WHERE_H

#include <cstddef>
#include <string_view>

#include "core/status.h"

namespace ldm::json {

// The key of an object that may have any keys; a field is one that its format knows.
struct Key {
    std::string_view text;
};

class Where {
public:
    // The top: a file, and what of it. Both may hold text of the caller.
    explicit Where(std::string_view file, std::string_view part = {}) : kind_(Kind::top), name_(file), part_(part) {}

    // The levels below: `.field`, `['key']`, `[index]`. `parent` must outlive them, so it is never a temporary.
    Where(const Where& parent, std::string_view field) : parent_(&parent), kind_(Kind::field), name_(field) {}
    Where(const Where& parent, const char* field) : Where(parent, std::string_view(field)) {}
    Where(const Where& parent, Key key) : parent_(&parent), kind_(Kind::key), name_(key.text) {}
    Where(const Where& parent, std::size_t index) : parent_(&parent), kind_(Kind::index), index_(index) {}
    template <typename Level>
    Where(const Where&& parent, Level) = delete;

    // Add it to a sentence.
    void spell(Failure& failure) const;

private:
    enum class Kind { top, field, key, index };
    const Where* parent_ = nullptr;
    Kind kind_;
    std::string_view name_;
    std::string_view part_;
    std::size_t index_ = 0;
};

// Keep a failure: the place, then what is wrong there.
Status fail(Scope& scope, const Where& where, const char* code, std::initializer_list<Piece> what);

}  // namespace ldm::json

#endif
