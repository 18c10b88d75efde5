#include "src/api/options.h"

#include <cmath>
#include <limits>

#include "core/codes.h"
#include "src/api/handles.h"
#include "src/files/random.h"

namespace ldm::api {

namespace {

std::optional<double> unless_nan(double value) { return std::isnan(value) ? std::nullopt : std::optional<double>(value); }

// Two numbers of which both are given, or none.
Status take_size(Scope& scope, const char* name, int32_t width, int32_t height, std::optional<Size>& out) {
    if (width == 0 && height == 0) return Status();
    if (width == 0 || height == 0) {
        return scope.fail(codes::request_size, {name, " is ", width, "x", height, "; give both sides, or neither"});
    }
    out = Size{width, height};
    return Status();
}

}  // namespace

Status take_image(Scope& scope, const ldm_image& given, const char* what, images::Samples& out) {
    ldm_image image;
    if (!take(&given, ldm_image_init, image) || image.pixels == nullptr ||
        (image.pixel_type != LDM_UINT8 && image.pixel_type != LDM_UINT16)) {
        return scope.fail(codes::request_image, {what, " has no pixels, a pixel type that is none, or was not begun with "
                          "ldm_image_init"});
    }
    out.width = image.width;
    out.height = image.height;
    out.channels = image.channels;
    out.bits = image.pixel_type == LDM_UINT16 ? 16 : 8;
    out.data = image.pixels;
    out.row_bytes = image.row_bytes;
    return Status();
}

Status TakenOptions::read(Scope& scope, const ldm_run_options& given) {
    LDM_TRY(read_texts(scope, given));
    LDM_TRY(read_pictures(scope, given));
    LDM_TRY(read_seeds(scope, given));
    LDM_TRY(read_sizes(scope, given));
    options.count = given.count == 0 ? 1 : given.count;
    if (given.syntax != nullptr) options.syntax = given.syntax;
    if (given.steps != 0) options.steps = given.steps;
    options.guidance = unless_nan(given.guidance);
    options.guidance_rescale = given.guidance_rescale;
    options.guidance_from = given.guidance_from;
    options.guidance_to = given.guidance_to;
    if (given.sampler != nullptr) options.sampler = given.sampler;
    if (given.noise != nullptr) options.noise = given.noise;
    if (given.has_variation != 0) options.variation = Variation{given.variation_seed, given.variation_strength};
    options.strength = unless_nan(given.strength);
    if (given.stop_after != 0) options.stop_after = given.stop_after;
    options.latents = given.latents;
    if (given.to_prompt != nullptr) options.to = OtherEnd{given.to_prompt, given.to_seed, given.share};
    return Status();
}

Status TakenOptions::read_texts(Scope& scope, const ldm_run_options& given) {
    if (given.prompt != nullptr && given.prompts != nullptr) {
        return misused(scope, {"both prompt and prompts were given; give one of them"});
    }
    size_t prompts = given.prompt != nullptr ? 1 : given.prompts != nullptr ? given.prompt_count : 0;
    size_t negatives = given.negative != nullptr ? 1 : given.negatives != nullptr ? given.prompt_count : 0;
    for (size_t index = 0; index < prompts + negatives; ++index) {
        bool is_negative = index >= prompts;
        const char* single = is_negative ? given.negative : given.prompt;
        const char* const* several = is_negative ? given.negatives : given.prompts;
        const char* text = single != nullptr ? single : several[is_negative ? index - prompts : index];
        if (text == nullptr) return misused(scope, {is_negative ? "negatives" : "prompts", " holds a NULL"});
        LDM_NEED(scope, texts_.push(text));
    }
    options.prompts = {texts_.data(), prompts};
    if (negatives > 0) options.negatives = View<std::string_view>{texts_.data() + prompts, negatives};
    if (given.prompt_embeds != nullptr) {
        options.embeddings = Embeddings{given.prompt_embeds, given.pooled_prompt_embeds, given.embeds_count, given.embeds_tokens};
    }
    return Status();
}

Status TakenOptions::read_pictures(Scope& scope, const ldm_run_options& given) {
    size_t count = given.images == nullptr ? 0 : given.image_count;
    for (size_t index = 0; index < count; ++index) {
        images::Samples picture;
        LDM_TRY(take_image(scope, given.images[index], "the image", picture));
        LDM_NEED(scope, pictures_.push(picture));
    }
    options.pictures = pictures_.view();
    if (given.mask == nullptr) return Status();
    LDM_TRY(take_image(scope, *given.mask, "the mask", mask_));
    options.mask = &mask_;
    return Status();
}

Status TakenOptions::read_seeds(Scope& scope, const ldm_run_options& given) {
    options.seeds_are_chosen = given.seeds != nullptr || given.has_seed != 0;
    if (given.seeds != nullptr) {
        options.seeds = {given.seeds, given.seed_count};
        return Status();
    }
    seed_ = given.seed;
    if (given.has_seed == 0) LDM_TRY(files::random_seed(scope, seed_));
    options.seeds = {&seed_, 1};
    return Status();
}

Status TakenOptions::read_sizes(Scope& scope, const ldm_run_options& given) {
    LDM_TRY(take_size(scope, "size", given.width, given.height, options.size));
    LDM_TRY(take_size(scope, "original_size", given.original_width, given.original_height, options.original_size));
    LDM_TRY(take_size(scope, "target_size", given.target_width, given.target_height, options.target_size));
    if (given.crop_top != 0 || given.crop_left != 0) options.crop_left_top = Size{given.crop_left, given.crop_top};
    return Status();
}

}  // namespace ldm::api

void ldm_run_options_init(ldm_run_options* options, size_t struct_size) {
    ldm::api::begin(options, struct_size, [](ldm_run_options& it) {
        it.guidance = it.strength = std::numeric_limits<double>::quiet_NaN();
        it.guidance_to = 1.0;
    });
}

void ldm_image_init(ldm_image* image, size_t struct_size) {
    ldm::api::begin(image, struct_size, [](ldm_image& it) { it.pixel_type = LDM_UINT8; });
}
