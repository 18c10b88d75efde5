// An allocator whose n-th allocation fails, and which counts the blocks that are alive.
#ifndef LDM_TESTS_FAILING_ALLOCATOR_H
#define LDM_TESTS_FAILING_ALLOCATOR_H

#include <cstdio>
#include <cstdlib>
#include <string_view>

#include "core/codes.h"
#include "core/memory.h"
#include "core/status.h"
#include "tests/check.h"

struct FailingAllocator {
    long long allowed = -1;  // allocations until one fails; below 0: none fails
    long long made = 0;
    long long alive = 0;

    ldm::Allocator allocator() { return {allocate, release, this}; }

    static void* allocate(void* user, std::size_t bytes) {
        auto* self = static_cast<FailingAllocator*>(user);
        if (self->made == self->allowed) return nullptr;
        ++self->made;
        ++self->alive;
        return std::malloc(bytes == 0 ? 1 : bytes);
    }
    static void release(void* user, void* block, std::size_t) {
        --static_cast<FailingAllocator*>(user)->alive;
        std::free(block);
    }
};

// Run `work`, a Status(Scope&) that gives back all it takes, with each allocation failing once: the first, the second, …
// (every `stride`-th). It must report that no memory is left, and leak nothing, until no allocation fails.
template <typename Work>
void check_every_allocation(const char* what, Work work, long long stride = 1) {
    for (long long allowed = 0;; allowed += stride) {
        FailingAllocator failing;
        failing.allowed = allowed;
        ldm::Failure failure;
        ldm::Allocator allocator = failing.allocator();
        ldm::Scope scope{allocator, failure};
        ldm::Status status = work(scope);
        bool was_reached = failing.made == allowed;
        if (!CHECK(failing.alive == 0) || !CHECK(status.ok() || std::string_view(status.code()) == ldm::codes::other_memory)) {
            std::fprintf(stderr, "  %s, allocation %lld: %s, %lld blocks alive\n", what, allowed,
                         status.ok() ? "no failure" : failure.text, failing.alive);
            return;
        }
        if (!was_reached || status.ok()) {
            CHECK(status.ok());
            return;
        }
    }
}

#endif
