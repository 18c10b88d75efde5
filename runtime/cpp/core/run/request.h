// The options of a run, checked against the package's contract before anything is computed, every default filled in.
#ifndef LDM_CORE_RUN_REQUEST_H
#define LDM_CORE_RUN_REQUEST_H

#include <cstdint>
#include <optional>
#include <string_view>

#include "core/memory.h"
#include "core/noise/noise.h"
#include "core/run/model.h"
#include "core/run/options.h"
#include "core/sampling/plan.h"
#include "core/status.h"

namespace ldm {

// What a model that reads sizes is told, in pixels: cut from an original of size `original` at (top, left) to `target`.
struct ImageSizes {
    Size original;
    std::int64_t top = 0, left = 0;
    Size target;
};

// All of one run. B is the number of images. Lives in an arena; `negatives` has B entries, and so has `prompts` unless
// embeddings take their place.
struct Request {
    View<std::string_view> prompts;
    View<std::string_view> negatives;
    std::size_t repeats = 1;       // images for each prompt, which follow one another
    bool negative_is_given = false;
    bool negatives_are_several = false;  // one for each prompt, not one for all
    bool zero_negative = false;    // zeros take the place of what the text encoders make of the negative prompts
    bool has_embeddings = false;
    std::size_t embeddings_tokens = 0;
    View<float> context;           // (B, embeddings_tokens, D), where embeddings are given
    View<float> pooled;            // (B, P) beside them
    std::string_view syntax;       // "plain" or "weighted"

    const Variant* variant = nullptr;  // that draws; null: it is drawn exactly
    sampling::Plan plan;
    std::int64_t stop_after = 0;   // steps; those of the plan where it ends there
    double guidance = 0.0;
    bool is_guided = false;        // the negative prompt is evaluated too
    bool embeds_guidance = false;  // the denoiser reads the scale, and never the negative prompt
    double guidance_rescale = 0.0;
    double guidance_from = 0.0, guidance_to = 1.0;
    bool interval_is_chosen = false;  // by the user, and not the whole run

    View<std::uint64_t> seeds;     // one for each image
    bool seed_is_chosen = true;
    std::string_view noise;
    NoiseMode noise_mode;
    std::optional<Variation> variation;
    std::optional<OtherEnd> to;

    std::size_t batch = 0;         // B
    Size size;                     // pixels
    ImageSizes sizes;
    View<float> latents;           // (B, C, h, w), noise of unit variance; empty: that of the seeds

    std::size_t start_image_count = 0;  // 1 or B, 0 without images
    View<float> pixels;            // (start_image_count, 3, height, width) in [-1, 1]
    View<float> mask;              // (h, w), 1 where the image is inpainted; empty without a mask
    View<float> masked_pixels;     // as `pixels`, grey there; for a denoiser that reads it
    std::optional<double> strength;
    bool image_is_transparent = false, mask_is_transparent = false;

    std::size_t latent_height(const Contract& contract) const {
        return static_cast<std::size_t>(size.height / contract.latent.downsample);
    }
    std::size_t latent_width(const Contract& contract) const {
        return static_cast<std::size_t>(size.width / contract.latent.downsample);
    }
    // Whether the negative prompt is evaluated at a row of the plan.
    bool is_guided_at(std::size_t row) const;
    std::size_t prompt_count() const { return batch / repeats; }
    // Whether a run with an image begins with noise alone.
    bool starts_from_noise() const { return !strength.has_value() || (!mask.empty() && *strength == 1.0); }
};

// Check the options and fill in the defaults. All is copied into the arena. Codes: request.*.
Status check_request(Scope& scope, Arena& arena, const Model& model, const RunOptions& options, Request& out);

}  // namespace ldm

#endif
