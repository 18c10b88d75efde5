// Zig links its own standard library into a library for macOS, whose operators new and delete would be exported and take
// the place of those of the whole program. These are hidden. Nothing here allocates with them.
#include <cstddef>
#include <cstdlib>
#include <new>

namespace {

void* taken(std::size_t bytes, std::size_t alignment) {
    void* block = nullptr;
    if (::posix_memalign(&block, alignment, bytes) != 0) std::abort();
    return block;
}

std::size_t number(std::align_val_t alignment) { return static_cast<std::size_t>(alignment); }

}  // namespace

void* operator new(std::size_t bytes) { return taken(bytes, alignof(std::max_align_t)); }
void* operator new[](std::size_t bytes) { return taken(bytes, alignof(std::max_align_t)); }
void* operator new(std::size_t bytes, std::align_val_t alignment) { return taken(bytes, number(alignment)); }
void* operator new[](std::size_t bytes, std::align_val_t alignment) { return taken(bytes, number(alignment)); }
void operator delete(void* block) noexcept { std::free(block); }
void operator delete[](void* block) noexcept { std::free(block); }
void operator delete(void* block, std::size_t) noexcept { std::free(block); }
void operator delete[](void* block, std::size_t) noexcept { std::free(block); }
void operator delete(void* block, std::align_val_t) noexcept { std::free(block); }
void operator delete[](void* block, std::align_val_t) noexcept { std::free(block); }
void operator delete(void* block, std::size_t, std::align_val_t) noexcept { std::free(block); }
void operator delete[](void* block, std::size_t, std::align_val_t) noexcept { std::free(block); }
