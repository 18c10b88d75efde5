// The checks of a request by kind of option, for request.cpp, which calls them in the Python runtime's order: of
// several options that will not do, both name the same one.
#ifndef LDM_CORE_RUN_REQUEST_CHECKS_H
#define LDM_CORE_RUN_REQUEST_CHECKS_H

#include <cstdint>
#include <string_view>

#include "core/memory.h"
#include "core/run/options.h"
#include "core/run/request.h"
#include "core/status.h"

namespace ldm {

// What every check reads, and the request that it fills.
struct Checking {
    Scope& scope;
    Arena& arena;
    const Contract& contract;
    const RunOptions& options;
    Request& out;

    // A copy of a text, in the arena.
    Status copy(std::string_view text, std::string_view& kept) const;
    // A copy of numbers of the caller's; request.array where one is not finite.
    Status copy(std::string_view name, const float* values, std::size_t count, View<float>& kept) const;
    // Rows of `each` numbers, each `repeats` times.
    Status repeat(View<float> rows, std::size_t each, View<float>& repeated) const;
};

Status check_share(Scope& scope, std::string_view name, double value);
Status check_integer(Scope& scope, std::string_view name, std::int64_t value, std::int64_t low, std::int64_t high,
                     const char* code);

// request_texts.cpp: prompts or embeddings, negative prompts, the number of images, and whether the package takes it.
Status read_texts(const Checking& its);
// The pooled text beside embeddings.
Status read_pooled(const Checking& its);

// request_sizes.cpp: the size to draw at, and latents of it.
Status read_size(const Checking& its);
// What a model that reads sizes is told.
Status read_sizes_told(const Checking& its);

// request_images.cpp: whether there are images to start from, and their strength.
Status check_images(const Checking& its);
// Their pixels at the size to draw at.
Status read_pixels(const Checking& its);
Status read_mask(const Checking& its);

}  // namespace ldm

#endif
