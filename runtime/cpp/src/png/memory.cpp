#include "src/png/memory.h"

namespace ldm::png {

namespace {

thread_local Borrowed* current = nullptr;

struct alignas(std::max_align_t) Head {
    std::size_t bytes;  // of the whole block
};

}  // namespace

struct Blocks {
    static void* take(std::size_t bytes) {
        if (current == nullptr || bytes > current->left_ || current->left_ - bytes < sizeof(Head)) {
            if (current != nullptr) current->limit_was_reached_ = true;
            return nullptr;
        }
        std::size_t whole = bytes + sizeof(Head);
        void* block = current->memory_.allocate(current->memory_.user, whole);
        if (block == nullptr) return nullptr;
        current->left_ -= whole;
        return new (block) Head{whole} + 1;
    }
    static void give_back(void* block) {
        Head* head = static_cast<Head*>(block) - 1;
        current->left_ += head->bytes;
        current->memory_.release(current->memory_.user, head, head->bytes);
    }
    static std::size_t size(void* block) { return (static_cast<Head*>(block) - 1)->bytes - sizeof(Head); }
};

Borrowed::Borrowed(Allocator& memory, std::size_t limit) : memory_(memory), left_(limit), before_(current) {
    current = this;
}

Borrowed::~Borrowed() { current = before_; }

}  // namespace ldm::png

using ldm::png::Blocks;

void* lodepng_malloc(std::size_t bytes) { return Blocks::take(bytes); }

void* lodepng_realloc(void* block, std::size_t bytes) {
    void* larger = Blocks::take(bytes);
    if (block == nullptr || larger == nullptr) return larger;
    std::size_t kept = Blocks::size(block);
    std::memcpy(larger, block, kept < bytes ? kept : bytes);
    Blocks::give_back(block);
    return larger;
}

void lodepng_free(void* block) {
    if (block != nullptr) Blocks::give_back(block);
}
