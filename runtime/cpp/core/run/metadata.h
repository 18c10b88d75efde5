// How an image was made, as names and values. The same options draw it again.
#ifndef LDM_CORE_RUN_METADATA_H
#define LDM_CORE_RUN_METADATA_H

#include <string_view>

#include "core/memory.h"
#include "core/run/model.h"
#include "core/run/request.h"
#include "core/status.h"

namespace ldm {

// Both end with a NUL.
struct Fact {
    std::string_view name, value;
};

// Describe image `image` after `steps_done` steps, in the arena.
Status describe(Scope& scope, Arena& arena, const Model& model, const Request& request, std::size_t image,
                std::int64_t steps_done, View<Fact>& out);

}  // namespace ldm

#endif
