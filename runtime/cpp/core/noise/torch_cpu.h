// The noise of `torch.Generator("cpu")`, without torch: a seed from diffusers gives the same image here.
//
// torch draws with MT19937 and Box-Muller, in float32 and with vectorised kernels whose logarithms, sines and cosines
// differ in the last bits between processors. These are float64 rounded where torch rounds, so they equal torch to
// about 5e-7, never to the bit. Sources: Matsumoto and Nishimura, "Mersenne Twister", 1998; ATen's
// DistributionTemplates.h.
#ifndef LDM_CORE_NOISE_TORCH_CPU_H
#define LDM_CORE_NOISE_TORCH_CPU_H

#include <cstddef>
#include <cstdint>

namespace ldm {

class MersenneTwister {
public:
    explicit MersenneTwister(std::uint32_t seed);
    std::uint32_t next();

private:
    static constexpr int size = 624, middle = 397;
    void refill();

    std::uint32_t words_[size];
    int at_ = size;
};

// The stream of a generator seeded with `manual_seed(seed)`; each draw goes on where the last one stopped.
class TorchGenerator {
public:
    // As torch does it, of the seed's low half.
    explicit TorchGenerator(std::uint64_t seed) : engine_(static_cast<std::uint32_t>(seed)) {}

    // What `torch.randn(count, generator=…)` draws, to rounding.
    void normal(float* out, std::size_t count);

private:
    static constexpr std::size_t block = 16;  // torch transforms uniform numbers in blocks
    void draw_block(float* out);
    void draw_small(float* out, std::size_t count);
    double uniform24();
    double uniform53();

    MersenneTwister engine_;
    bool has_spare_ = false;
    double spare_ = 0.0;  // of small draws, which torch makes two at a time
};

}  // namespace ldm

#endif
