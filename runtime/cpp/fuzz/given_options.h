// Options of a run that the bytes of a fuzz target's input choose, right and wrong ones.
#ifndef LDM_FUZZ_GIVEN_OPTIONS_H
#define LDM_FUZZ_GIVEN_OPTIONS_H

#include <cmath>
#include <cstdint>

#include "ldm_runtime.h"

// The bytes of the input, one after the other; zeros behind its end.
struct Bytes {
    const std::uint8_t* data;
    std::size_t left;

    std::uint8_t next() {
        if (left == 0) return 0;
        --left;
        return *data++;
    }
    template <typename T, std::size_t N>
    T of(const T (&choices)[N]) { return choices[next() % N]; }
};

struct GivenOptions {
    ldm_image image;
    ldm_run_options options;

    explicit GivenOptions(Bytes& bytes) {
        static const unsigned char pixels[32 * 32 * 4] = {1, 2, 3, 255, 128};
        static const float numbers[2 * 4 * 4 * 4] = {0.5f, -1.0f, NAN};
        static const uint64_t seeds[] = {3, 0xFFFFFFFFFFFFFFFF};
        static const char* const prompts[] = {"a red apple", "(tree:1.2)", "x\xff"};
        ldm_image_init(&image, sizeof image);
        image.width = bytes.of({32, 32, 32, 16, 0, -1});
        image.height = bytes.of({32, 32, 32, 9});
        image.channels = bytes.of({3, 4, 1, 5});
        image.pixels = bytes.of<const void*>({pixels, pixels, pixels, nullptr});
        ldm_run_options_init(&options, sizeof options);
        options.prompt = bytes.of<const char*>({"a red apple", "", "(tree:1.2) [sky] BREAK grass", "x\xff", nullptr});
        options.prompts = bytes.of<const char* const*>({nullptr, nullptr, nullptr, prompts});
        options.prompt_count = bytes.of<size_t>({2, 3, 0});
        options.negative = bytes.of<const char*>({nullptr, "blue", "(no:0)"});
        options.count = bytes.of({0, 1, 2, 3, -1});
        options.syntax = bytes.of<const char*>({nullptr, "plain", "weighted", "other"});
        options.steps = bytes.of({1, 2, 3, 0, -4});
        options.guidance = bytes.of({1.0, 3.0, -1.0, static_cast<double>(INFINITY)});
        options.guidance_rescale = bytes.of({0.0, 0.7, 2.0});
        options.guidance_from = bytes.of({0.0, 0.5});
        options.sampler =
            bytes.of<const char*>({"euler", "heun", "dpmpp_2m_sde", "ddim:clip_sample=true", "lms", "eular"});
        options.has_seed = 1;
        options.seed = bytes.next();
        options.seeds = bytes.of<const uint64_t*>({nullptr, nullptr, seeds});
        size_t seed_count = bytes.of<size_t>({2, 1, 0});
        options.seed_count = options.seeds == nullptr ? 0 : seed_count;
        options.noise = bytes.of<const char*>({nullptr, "philox", "torch", "cuda", "white"});
        options.has_variation = bytes.of({0, 0, 1});
        double variation_strength = bytes.of({0.3, 1.0, -1.0});
        options.variation_strength = options.has_variation == 0 ? 0.0 : variation_strength;
        options.width = bytes.of({16, 32, 0, 17, -8});
        options.height = bytes.of({16, 32, 0, 100000});
        options.images = bytes.of<const ldm_image*>({nullptr, nullptr, &image});
        options.image_count = bytes.of<size_t>({1, 0});
        options.mask = bytes.of<const ldm_image*>({nullptr, nullptr, &image});
        options.strength = bytes.of({static_cast<double>(NAN), 0.5, 1.0, 0.0, 7.0});
        options.stop_after = bytes.of({0, 1, 2, -1});
        options.to_prompt = bytes.of<const char*>({nullptr, nullptr, "a green tree"});
        options.share = bytes.of({0.25, 1.0, 2.0});
        if (options.to_prompt == nullptr) options.share = 0.0;  // refused without it
        options.latents = bytes.of<const float*>({nullptr, nullptr, numbers + 4, numbers});
        options.latents_count = bytes.of<size_t>({16, 64, 0, SIZE_MAX});
        options.prompt_embeds = bytes.of<const float*>({nullptr, nullptr, numbers + 4, numbers});
        options.embeds_count = bytes.of<size_t>({1, 2, 0, SIZE_MAX});
        options.embeds_tokens = bytes.of<size_t>({12, 1, 0, SIZE_MAX});
        options.embeds_width = bytes.of<size_t>({6, 7, 0, SIZE_MAX});
    }
    GivenOptions(const GivenOptions&) = delete;
    GivenOptions& operator=(const GivenOptions&) = delete;
};

#endif
