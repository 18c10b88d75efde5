// The noise of `torch.Generator("cuda")`, without torch or a GPU: cuRAND's Philox4x32-10 and Box-Muller.
//
// On a GPU element i is drawn by thread i, as long as there is a resident thread for each element: then every GPU gives
// the same numbers. Larger latents are drawn in several rounds, and which thread draws an element depends on how many
// threads the GPU keeps resident, so that has to be told. CUDA's own float32 functions differ from these, which are
// float64 rounded once, by about 5e-7: equal to rounding, never to the bit.
// Source: ATen's cuda/DistributionTemplates.h, cuRAND's curand_philox4x32_x.h and curand_normal.h.
#ifndef LDM_CORE_NOISE_CUDA_H
#define LDM_CORE_NOISE_CUDA_H

#include <cstddef>
#include <cstdint>

#include "core/status.h"

namespace ldm {

inline constexpr std::size_t cuda_threads_per_block = 256;
// Up to this many (64x64 latents), any GPU that runs such models has a resident thread for each number.
inline constexpr std::size_t cuda_max_portable_numbers = 16384;

// The stream of a generator seeded with `manual_seed(seed)`; each draw goes on where the last one stopped.
class CudaGenerator {
public:
    // resident_threads: 0 where they are not told.
    CudaGenerator(std::uint64_t seed, std::size_t resident_threads) : seed_(seed), resident_(resident_threads) {}

    // What `torch.randn(count, generator=…, device="cuda")` draws, to rounding. request.noise for a count whose numbers
    // depend on the GPU, which is not known.
    Status normal(Scope& scope, float* out, std::size_t count);

private:
    std::uint64_t seed_;
    std::size_t resident_;
    std::uint32_t offset_ = 0;  // in groups of four numbers
};

}  // namespace ldm

#endif
