// What to draw: the options of a run, the same as SampleOptions of the Python runtime. A value that is not there has
// the package's default, or no effect. Nothing here owns anything: a run copies what it keeps.
#ifndef LDM_CORE_RUN_OPTIONS_H
#define LDM_CORE_RUN_OPTIONS_H

#include <cstdint>
#include <optional>
#include <string_view>

#include "core/images/image.h"
#include "core/memory.h"
#include "core/package/variants.h"

namespace ldm {

struct Size {
    std::int64_t width = 0;
    std::int64_t height = 0;

    bool operator==(const Size& other) const { return width == other.width && height == other.height; }
    bool operator!=(const Size& other) const { return !(*this == other); }
};

struct Variation {
    std::uint64_t seed = 0;
    double strength = 0.0;
};

// Embeddings in place of prompts: (count, tokens, width).
struct Embeddings {
    const float* context = nullptr;
    std::size_t count = 0;
    std::size_t tokens = 0;
    std::size_t width = 0;
};

// Pooled ones beside them: (count of Embeddings, width).
struct PooledEmbeddings {
    const float* pooled = nullptr;
    std::size_t width = 0;
};

// The other end of an interpolation, and how far towards it, 0 to 1.
struct OtherEnd {
    std::string_view prompt;
    std::uint64_t seed = 0;
    double share = 0.0;
};

struct RunOptions {
    std::optional<View<std::string_view>> prompts;
    std::optional<Embeddings> embeddings;           // in place of prompts
    std::optional<PooledEmbeddings> pooled_embeddings;  // beside them
    std::optional<std::string_view> negative;       // for all prompts
    std::optional<View<std::string_view>> negatives;  // in place of it, one for each prompt
    std::int64_t count = 1;                         // images for each prompt
    std::string_view syntax = "plain";

    std::optional<std::int64_t> steps;
    std::optional<double> guidance;
    double guidance_rescale = 0.0;
    std::optional<double> guidance_from, guidance_to;  // neither: the whole run, or what the variant says
    std::optional<std::string_view> sampler;

    std::uint64_t seed = 0;                         // of the first image; image b has seed + b mod 2^64
    bool seed_is_chosen = true;                     // by the user; false: drawn for want of any
    std::optional<View<std::uint64_t>> seeds;       // in place of it, one for each image
    std::string_view noise = "philox";
    std::optional<Variation> variation;

    std::optional<Size> size;
    std::optional<Size> original_size, target_size;
    std::optional<Size> crop_left_top;              // width: left, height: top

    std::optional<View<images::Samples>> start_images;  // to start from: one for all images, or one for each
    const images::Samples* mask = nullptr;
    std::optional<double> strength;
    std::optional<std::int64_t> stop_after;

    std::optional<View<float>> latents;             // (B, C, h, w) at `size`, or at the package's default
    std::optional<OtherEnd> to;
    const Variant* variant = nullptr;               // of the package, whose defaults go before its own
};

}  // namespace ldm

#endif
