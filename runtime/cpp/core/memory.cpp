#include "core/memory.h"

#include <cstdlib>

namespace ldm {

namespace {

constexpr std::size_t chunk_bytes = 16 * 1024;

void* system_allocate(void*, std::size_t bytes) { return std::malloc(bytes == 0 ? 1 : bytes); }
void system_release(void*, void* block, std::size_t) { std::free(block); }

}  // namespace

Allocator system_allocator() { return {system_allocate, system_release, nullptr}; }

struct alignas(std::max_align_t) Arena::Chunk {
    Chunk* before;
    std::size_t bytes;  // after this head

    unsigned char* begin() { return reinterpret_cast<unsigned char*>(this + 1); }
};

void Arena::clear() {
    while (last_ != nullptr) {
        Chunk* before = last_->before;
        memory_->release(memory_->user, last_, sizeof(Chunk) + last_->bytes);
        last_ = before;
    }
    used_ = 0;
}

void* Arena::take(std::size_t bytes, std::size_t alignment) {
    std::size_t start = (used_ + alignment - 1) / alignment * alignment;
    if (last_ == nullptr || start > last_->bytes || bytes > last_->bytes - start) {
        std::size_t size = bytes < chunk_bytes ? chunk_bytes : bytes;
        if (size > static_cast<std::size_t>(-1) / 2) return nullptr;
        void* block = memory_->allocate(memory_->user, sizeof(Chunk) + size);
        if (block == nullptr) return nullptr;
        last_ = new (block) Chunk{last_, size};
        start = 0;
    }
    void* found = last_->begin() + start;
    used_ = start + bytes;
    return found;
}

}  // namespace ldm
