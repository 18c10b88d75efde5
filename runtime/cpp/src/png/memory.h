// Memory of LodePNG: it asks functions without a context, so the thread that calls it says where memory comes from.
#ifndef LDM_SRC_PNG_MEMORY_H
#define LDM_SRC_PNG_MEMORY_H

#include "core/memory.h"

namespace ldm::png {

// While it lives, LodePNG's blocks in this thread come from an allocator, at most `limit` bytes at once.
class Borrowed {
public:
    Borrowed(Allocator& memory, std::size_t limit);
    ~Borrowed();
    Borrowed(const Borrowed&) = delete;
    Borrowed& operator=(const Borrowed&) = delete;

    bool limit_was_reached() const { return limit_was_reached_; }

private:
    friend struct Blocks;
    Allocator& memory_;
    std::size_t left_;
    bool limit_was_reached_ = false;
    Borrowed* before_;
};

}  // namespace ldm::png

// What LodePNG calls.
void* lodepng_malloc(std::size_t bytes);
void* lodepng_realloc(void* block, std::size_t bytes);
void lodepng_free(void* block);

#endif
