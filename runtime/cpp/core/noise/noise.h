// The noise of a run: `philox` (the default), or that of torch on a CPU or on a GPU.
//
// `philox` has a stream for each purpose, so nothing depends on what was drawn before. `torch` and `cuda` draw one
// number after the other as diffusers does: for each image a generator seeded seed + b, in the order of the calls.
#ifndef LDM_CORE_NOISE_NOISE_H
#define LDM_CORE_NOISE_NOISE_H

#include <cstddef>
#include <cstdint>
#include <string_view>

#include "core/memory.h"
#include "core/noise/cuda.h"
#include "core/noise/philox.h"
#include "core/noise/torch_cpu.h"
#include "core/status.h"

namespace ldm {

// The sample that is drawn from the moments of the VAE encoder; the same for the masked image of an inpainting model.
inline constexpr std::uint32_t vae_stream = reserved_streams;
inline constexpr std::uint32_t masked_stream = reserved_streams + 1;

struct NoiseMode {
    enum class Kind { philox, torch, cuda } kind = Kind::philox;
    std::size_t resident_threads = 0;  // of the GPU that `cuda` is of; 0: not told
};

// Read the name of a noise: "philox", "torch", "cuda" or "cuda:270336". request.noise for an unknown one, or for one
// without the streams of a sampler that reads one noise in several rows (correlated).
Status check_noise(Scope& scope, std::string_view name, bool correlated, std::string_view sampler, NoiseMode& out);

// The seeds of a batch's images: seed + b mod 2^64.
Status batch_seeds(Scope& scope, std::uint64_t seed, std::size_t count, Array<std::uint64_t>& out);

// Unit-variance noise for a batch of latents, each from its seed: float32 (B, C, h, w).
class Noise {
public:
    explicit Noise(Allocator& memory) : seeds_(memory), torch_(memory), cuda_(memory), rows_{{memory}, {memory}} {}

    // Once, before all else. numbers: of one image, C * h * w.
    Status start(Scope& scope, NoiseMode mode, View<std::uint64_t> seeds, std::size_t numbers);

    // Numbers of the whole batch.
    std::size_t size() const { return seeds_.size() * numbers_; }

    // Draw the noise of one stream into `size()` values. The torch and cuda generators have none: they give their next
    // numbers. request.noise as of CudaGenerator.
    Status stream(Scope& scope, std::uint32_t stream, float* out);
    Status initial(Scope& scope, float* out) { return stream(scope, initial_stream, out); }

    // The noise of a plan's row, at most 2^31 - 2. The next row may ask for it again and gets the same numbers; they
    // last until a row after that one is asked for.
    Status row(Scope& scope, std::size_t row, View<float>& out);

private:
    static constexpr std::size_t no_row = static_cast<std::size_t>(-1);
    struct Row {
        Row(Allocator& memory) : values(memory) {}
        Array<float> values;
        std::size_t row = no_row;
    };

    NoiseMode mode_;
    std::size_t numbers_ = 0;
    Array<std::uint64_t> seeds_;
    Array<TorchGenerator> torch_;  // one for each image, or none
    Array<CudaGenerator> cuda_;
    Row rows_[2];  // rows of even and of odd number: a row may read the noise of the row before once more
};

}  // namespace ldm

#endif
