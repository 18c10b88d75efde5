// Who owns the pixels of an image.
#ifndef LDM_API_IMAGE_H
#define LDM_API_IMAGE_H

#include <cstddef>

#include "core/memory.h"
#include "include/ldm_runtime.h"

namespace ldm::api {

// What stands before pixels that an image owns: it is freed without the context that made it.
struct alignas(std::max_align_t) Owned {
    Allocator memory;
    size_t bytes;  // of the pixels

    unsigned char* pixels() { return reinterpret_cast<unsigned char*>(this + 1); }
};

constexpr size_t size_with_owner = offsetof(ldm_image, owned) + sizeof(void*);

}  // namespace ldm::api

#endif
