// The contract of a package: everything a runtime has to know of its graphs, roles, sizes and defaults. It guesses
// nothing.
#ifndef LDM_CORE_PACKAGE_CONTRACT_H
#define LDM_CORE_PACKAGE_CONTRACT_H

#include <cstdint>
#include <optional>
#include <string_view>

#include "core/json/fields.h"
#include "core/memory.h"
#include "core/sampling/schedule.h"
#include "core/status.h"

namespace ldm {

// A size of one dimension of a tensor: fixed, or the name of an axis of the contract.
struct Dim {
    bool is_named = false;
    std::int64_t size = 0;
    std::string_view axis;

    static Dim of(std::int64_t size) { return {false, size, {}}; }
    bool is(std::int64_t number) const { return !is_named && size == number; }
    bool operator==(const Dim& other) const {
        return is_named == other.is_named && size == other.size && axis == other.axis;
    }
    bool operator!=(const Dim& other) const { return !(*this == other); }
};

// One input or output of a graph.
struct TensorSpec {
    std::string_view name;
    std::string_view dtype;  // numpy's name: "float32", "int64"
    View<Dim> dims;
};

// The inputs or the outputs of a graph.
struct Tensors {
    View<TensorSpec> all;        // in the order of the manifest
    View<std::uint32_t> sorted;  // their places, by name

    static constexpr std::size_t none = static_cast<std::size_t>(-1);
    std::size_t place_of(std::string_view name) const;
    const TensorSpec* find(std::string_view name) const;
    const TensorSpec* begin() const { return all.begin(); }
    const TensorSpec* end() const { return all.end(); }
};

struct ComponentContract {
    Tensors inputs, outputs;

    // The input or output of a name; null where there is none.
    const TensorSpec* find(std::string_view name) const;
};

// A size that is always `factor` times that of `axis`: pixels of an image, of latent pixels.
struct Multiple {
    std::string_view axis;
    std::int64_t factor = 1;
};

// A dynamic axis: the sizes it may have, and those at which engine and reference were compared.
struct Axis {
    std::int64_t min = 0, max = 0;
    View<std::int64_t> proven;
    std::optional<Multiple> multiple_of;  // none: any size from min to max
};

// The latent space: the denoiser takes z = (mean - shift) * scale, the decoder takes z / scale + shift. Both constants
// are rounded to single precision, in which every runtime computes.
struct LatentSpec {
    std::int64_t channels = 0;
    std::int64_t downsample = 1;  // image pixels per latent pixel, along each side
    double scale = 1.0, shift = 0.0;

    // A latent of the autoencoder as one of the denoiser, and back.
    float scaled(float value) const { return (value - static_cast<float>(shift)) * static_cast<float>(scale); }
    float unscaled(float value) const { return value / static_cast<float>(scale) + static_cast<float>(shift); }
    // Draw a latent of the denoiser from mean and log-variance, which is clipped as in diffusers.
    float sampled(float mean, float log_variance, float noise) const;
};

// The default image size, in pixels.
struct ImageSpec {
    std::int64_t width = 0, height = 0;
};

// Values that a run takes where none are given.
struct Defaults {
    std::string_view sampler;
    std::int64_t steps = 0;
    double guidance = 1.0;
    // Whether, without a negative prompt, guidance takes zeros in place of all that the text encoders make of the empty
    // one.
    bool zero_negative = false;
};

// A tokenizer of CLIP's kind.
struct TokenizerFacts {
    std::string_view file;        // relative posix path of its tokenizer.json
    std::int64_t max_length = 0;  // tokens of one window, with the begin and end tokens
    std::int64_t bos_token_id = 0, eos_token_id = 0, pad_token_id = 0;
    std::int64_t vocab_size = 0;
};

// A component that encodes a window of tokens.
struct TextRole {
    std::string_view component;
    std::string_view input;
    TokenizerFacts tokenizer;
    std::string_view output;  // hidden states (B, T, D); those of all encoders, joined along D, are the context
    std::optional<std::string_view> pooled;  // the output (B, P) that an extra input of the denoiser reads
};

// What makes an input of the denoiser besides latents, timestep and context, (B, N) float32.
enum class ExtraRule {
    pooled_text,  // the pooled outputs of the text encoders, joined
    image_sizes,  // height and width of the original, top and left of the crop from it, height and width of the image
    guidance_embedding,  // sines, then cosines, of (guidance - 1) * 1000 at frequencies from 1 to 1/10000, evenly
                         // spaced in the logarithm; such a denoiser is evaluated for the prompt alone
};

// The component that is evaluated at each row of a sampling plan, and the meaning of its inputs.
struct DenoiserRole {
    std::string_view component;
    std::string_view sample, timestep, context;
    json::Map<ExtraRule> extra;
    std::string_view output;
};

// A component between images (B, 3, H, W) and latents: its input and its output.
struct CodecHalf {
    std::string_view component, input, output;
};

// The autoencoder. Its encoder gives mean and log-variance, of which latents are drawn, in twice as many channels as
// latents have; or the latents themselves.
struct CodecRole {
    std::string_view name;  // what both halves are called together
    CodecHalf encoder, decoder;
};

// What follows the latents along the channels of the denoiser's sample.
enum class ConcatChannels { mask, masked_latents };

struct Sizes {
    std::int64_t min, max;
};

// What is asked of a contract below holds for one that `read_manifest` took; before that check, only `find_tensor`
// does.
struct Contract {
    json::Map<ComponentContract> components;
    json::Map<Axis> axes;
    View<TextRole> text;  // in the order in which their outputs are joined
    DenoiserRole denoiser;
    View<ConcatChannels> concat;  // in this order
    CodecRole codec;
    LatentSpec latent;
    ImageSpec image;
    sampling::Schedule schedule;
    Defaults defaults;

    const TensorSpec* find_tensor(std::string_view component, std::string_view name) const;
    const TensorSpec& tensor(std::string_view component, std::string_view name) const;
    const TensorSpec& sample() const { return tensor(denoiser.component, denoiser.sample); }     // (B, C, h, w)
    const TensorSpec& context() const { return tensor(denoiser.component, denoiser.context); }  // (B, T, D)

    // Tokens of one window of text, the same for all text encoders.
    std::int64_t window() const { return text[0].tokenizer.max_length; }
    // Whether the denoiser reads a mask and the latents of the masked image.
    bool inpaints() const;
    // Whether an extra input of the denoiser is made by a rule.
    bool reads(ExtraRule rule) const;
    // The numbers of pooled text that the denoiser reads, 0 if it reads none.
    std::int64_t pooled_width() const;
    bool reads_sizes() const { return reads(ExtraRule::image_sizes); }
    bool embeds_guidance() const { return reads(ExtraRule::guidance_embedding); }
    // Whether the codec's encoder gives mean and log-variance; else it gives latents.
    bool encodes_moments() const;
    // Whether the denoiser is evaluated for the negative prompt too: at guidance 1 that would cancel out.
    bool evaluates_negative(double guidance) const { return guidance > 1.0 && !embeds_guidance(); }
    // The smallest and largest size of a dimension, or of an axis.
    Sizes range_of(const Dim& dim) const;
    Sizes range_of(std::string_view axis) const;
};

}  // namespace ldm

#endif
