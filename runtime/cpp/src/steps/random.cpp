// Without a system there is nothing random.
#include "src/files/random.h"

#include "core/codes.h"

namespace ldm::files {

Status random_seed(Scope& scope, std::uint64_t& out) {
    out = 0;
    return scope.fail(codes::request_invalid,
                      {"no seed was given, and nothing here is random; give seed and set has_seed to 1"});
}

}  // namespace ldm::files
