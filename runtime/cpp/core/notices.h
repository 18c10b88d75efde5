// Notices: sentences that a user should know beside the result, each with its subject.
#ifndef LDM_CORE_NOTICES_H
#define LDM_CORE_NOTICES_H

#include <initializer_list>
#include <string_view>

#include "core/memory.h"
#include "core/status.h"

namespace ldm {

struct Notice {
    std::string_view about;  // an option by its name, or "text", "engine" or "package"
    std::string_view text;   // ends with a NUL
};

class Notices {
public:
    explicit Notices(Allocator& memory) : arena_(memory), all_(memory) {}

    // Add one, unless the same is there.
    Status add(Scope& scope, std::string_view about, std::initializer_list<Piece> sentence);

    View<Notice> all() const { return all_.view(); }

private:
    Arena arena_;
    Array<Notice> all_;
};

}  // namespace ldm

#endif
