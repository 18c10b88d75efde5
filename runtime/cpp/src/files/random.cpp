#if defined(_WIN32)
#define _CRT_RAND_S  // declares rand_s
#endif
#include "src/files/random.h"

#include <cstdio>
#include <cstdlib>

#include "core/codes.h"

namespace ldm::files {

Status random_seed(Scope& scope, std::uint64_t& out) {
    unsigned int drawn = 0;
#if defined(_WIN32)
    bool is_drawn = rand_s(&drawn) == 0;
#else
    std::FILE* source = std::fopen("/dev/urandom", "rb");
    bool is_drawn = source != nullptr && std::fread(&drawn, sizeof drawn, 1, source) == 1;
    if (source != nullptr) std::fclose(source);
#endif
    out = drawn;
    if (is_drawn) return Status();
    return scope.fail(codes::other_failure, {"the system gives no random number; choose a seed"});
}

}  // namespace ldm::files
