// What every fuzz target is made of: memory that is counted and runs out, and properties that must hold.
#ifndef LDM_FUZZ_TARGET_H
#define LDM_FUZZ_TARGET_H

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <string_view>

#include "core/codes.h"
#include "core/memory.h"
#include "core/status.h"
#include "tests/failing_allocator.h"

// A program of its own for each target: libFuzzer's driver, or replay.cpp.
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size);

// End the program unless something holds, which the driver counts as a crash.
#define REQUIRE(...)                                                                    \
    do {                                                                                \
        if (!(__VA_ARGS__)) {                                                           \
            std::fprintf(stderr, "%s:%d: not true: %s\n", __FILE__, __LINE__, #__VA_ARGS__); \
            std::abort();                                                               \
        }                                                                               \
    } while (false)

inline std::string_view text_of(const std::uint8_t* data, std::size_t size) {
    return {reinterpret_cast<const char*>(data), size};
}

inline ldm::View<unsigned char> bytes_of(std::string_view text) {
    return {reinterpret_cast<const unsigned char*>(text.data()), text.size()};
}

// A scope whose memory runs out at 64 MiB, so that what a file claims is refused and not believed.
struct Bounded {
    FailingAllocator counted;
    ldm::Allocator memory = counted.allocator();
    ldm::Failure failure;
    ldm::Scope scope{memory, failure};

    Bounded() { counted.room = std::size_t{64} << 20; }
    ~Bounded() { REQUIRE(counted.alive == 0 && counted.bytes == 0); }
    Bounded(const Bounded&) = delete;
    Bounded& operator=(const Bounded&) = delete;

    // A failure has a sentence, and a code of one of these families, separated by spaces. That no memory is left is
    // said where it is true alone.
    void require_told(ldm::Status status, std::string_view families) const {
        if (status.ok()) return;
        std::string_view code = status.code();
        REQUIRE(failure.text[0] != '\0' && failure.code == status.code());
        if (code == ldm::codes::other_memory) {
            REQUIRE(counted.was_refused);
            return;
        }
        std::string family(code.substr(0, code.find('.')));
        REQUIRE((" " + std::string(families) + " ").find(" " + family + " ") != std::string::npos);
    }
};

#endif
