// How an image was made, as names and values. The same options draw it again, but for a preview, which says that
// it is one.
#ifndef LDM_CORE_RUN_METADATA_H
#define LDM_CORE_RUN_METADATA_H

#include <cstdint>
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

// The place in a run that an image is of.
struct Moment {
    std::int64_t steps_done = 0;
    std::int64_t evaluations = 0;  // of the denoiser so far
    bool is_within_step = false;   // the last one did not end a step
    bool is_preview = false;       // what the model predicted then, not the latents themselves
};

// Describe image `image` of a moment, in the arena.
Status describe(Scope& scope, Arena& arena, const Model& model, const Request& request, std::size_t image,
                const Moment& moment, View<Fact>& out);

}  // namespace ldm

#endif
