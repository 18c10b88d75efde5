// An allocator whose n-th allocation fails, or one that is beyond its room, and which counts what is alive.
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
    long long alive = 0;     // blocks
    std::size_t room = static_cast<std::size_t>(-1), bytes = 0;  // at most, and alive
    bool was_refused = false;

    ldm::Allocator allocator() { return {allocate, release, this}; }

    static void* allocate(void* user, std::size_t bytes) {
        auto* self = static_cast<FailingAllocator*>(user);
        if (self->made == self->allowed || bytes > self->room - self->bytes) {
            self->was_refused = true;
            return nullptr;
        }
        ++self->made;
        ++self->alive;
        self->bytes += bytes;
        return std::malloc(bytes == 0 ? 1 : bytes);
    }
    static void release(void* user, void* block, std::size_t bytes) {
        auto* self = static_cast<FailingAllocator*>(user);
        --self->alive;
        self->bytes -= bytes;
        std::free(block);
    }
};

// Run `work`, a Status(Scope&) that gives back all it takes, with each allocation failing once: the first, the second,
// … It must report that no memory is left, and leak nothing, until no allocation fails.
template <typename Work>
void check_every_allocation(const char* what, Work work) {
    for (long long allowed = 0;; ++allowed) {
        FailingAllocator failing;
        failing.allowed = allowed;
        ldm::Failure failure;
        ldm::Allocator allocator = failing.allocator();
        ldm::Scope scope{allocator, failure};
        ldm::Status status = work(scope);
        bool was_reached = failing.made == allowed;
        if (!CHECK(failing.alive == 0 && failing.bytes == 0) ||
            !CHECK(status.ok() || std::string_view(status.code()) == ldm::codes::other_memory)) {
            std::fprintf(stderr, "  %s, allocation %lld: %s, %lld blocks alive\n", what, allowed,
                         status.ok() ? "no failure" : failure.text, failing.alive);
            return;
        }
        if (!was_reached || status.ok()) {
            CHECK(status.ok() && !failing.was_refused);  // what was refused has to be told
            return;
        }
    }
}

#endif
