// Finds the members of an object by their keys, which may be a million: open addressing.
#ifndef LDM_CORE_JSON_KEY_TABLE_H
#define LDM_CORE_JSON_KEY_TABLE_H

#include <cstdint>
#include <string_view>

#include "core/json/json.h"
#include "core/memory.h"

namespace ldm::json {

class KeyTable {
public:
    explicit KeyTable(Allocator& memory) : slots_(memory) {}

    // Take the members of an object, in place of those before; false where no memory is left.
    [[nodiscard]] bool build(View<Member> members);

    // Whether the members have a key twice.
    bool repeats() const { return repeats_; }

    // The member whose key is two texts, joined; null where there is none.
    const Member* find(std::string_view left, std::string_view right = {}) const;

private:
    // Its result depends on all keys, so that no file is made whose keys share a slot.
    std::size_t slot(std::string_view left, std::string_view right) const;

    View<Member> members_;
    Array<std::uint32_t> slots_;  // a place in `members_` and one, 0 where there is none
    std::uint64_t seed_ = 0;
    bool repeats_ = false;
};

}  // namespace ldm::json

#endif
