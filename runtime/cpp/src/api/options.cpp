#include "src/api/options.h"

#include <cmath>
#include <limits>

#include "core/codes.h"
#include "src/api/handles.h"
#include "src/files/random.h"

namespace ldm::api {

namespace {

std::optional<double> unless_nan(double value) {
    return std::isnan(value) ? std::nullopt : std::optional<double>(value);
}

// A count of the caller's, by the name of its field.
struct Count {
    const char* field;
    std::size_t value;
};

// Refuse counts of an array that is not given: whoever fills them forgot it.
Status refuse_alone(Scope& scope, const char* code, const void* array, std::initializer_list<Count> counts,
                    const char* name) {
    for (const Count& count : counts) {
        if (array != nullptr || count.value == 0) continue;
        return scope.fail(code, {count.field, " is ", count.value, ", but ", name, " is NULL; give ", name,
                                 ", or leave ", count.field, " 0"});
    }
    return Status();
}

// Two numbers of which both are given, or none.
Status take_size(Scope& scope, const char* name, int32_t width, int32_t height, std::optional<Size>& out) {
    if (width == 0 && height == 0) return Status();
    if (width == 0 || height == 0) {
        return scope.fail(codes::request_size,
                          {name, " are ", width, " and ", height, "; give both sides, or neither"});
    }
    out = Size{width, height};
    return Status();
}

}  // namespace

Status take_image(Scope& scope, const ldm_image& given, const char* what, images::Samples& out) {
    ldm_image image;
    if (!take(&given, ldm_image_init, image) || image.pixels == nullptr) {
        return misused(scope, {what, " has no pixels, or was not begun with ldm_image_init"});
    }
    if (image.pixel_type != LDM_UINT8 && image.pixel_type != LDM_UINT16) {
        return scope.fail(codes::request_image, {what, " has the pixel type ", image.pixel_type,
                          "; expected LDM_UINT8 or LDM_UINT16"});
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
    LDM_TRY(read_images(scope, given));
    LDM_TRY(read_seeds(scope, given));
    LDM_TRY(read_sizes(scope, given));
    options.count = given.count == 0 ? 1 : given.count;
    if (given.syntax != nullptr) options.syntax = given.syntax;
    if (given.steps != 0) options.steps = given.steps;
    options.guidance = unless_nan(given.guidance);
    options.guidance_rescale = given.guidance_rescale;
    options.guidance_from = unless_nan(given.guidance_from);
    options.guidance_to = unless_nan(given.guidance_to);
    if (given.sampler != nullptr) options.sampler = given.sampler;
    if (given.noise != nullptr) options.noise = given.noise;
    if (given.has_variation == 0 && (given.variation_seed != 0 || given.variation_strength != 0.0)) {
        return scope.fail(codes::request_invalid, {"variation_seed or variation_strength is given, but has_variation "
                                                   "is 0; set it to 1, or leave them 0"});
    }
    if (given.has_variation != 0) options.variation = Variation{given.variation_seed, given.variation_strength};
    options.strength = unless_nan(given.strength);
    if (given.stop_after != 0) options.stop_after = given.stop_after;
    LDM_TRY(read_latents(scope, given));
    if (given.to_prompt != nullptr) options.to = OtherEnd{given.to_prompt, given.to_seed, given.share};
    if (given.to_prompt == nullptr && (given.to_seed != 0 || given.share != 0.0)) {
        return scope.fail(codes::request_invalid,
                          {"share and to_seed are given without to_prompt; give the prompt at the other "
                           "end, or leave them 0"});
    }
    return Status();
}

// Append `count` texts to an array.
static Status push_all(Scope& scope, const char* name, const char* const* given, std::size_t count,
                       Array<std::string_view>& out) {
    for (std::size_t index = 0; index < count; ++index) {
        if (given[index] == nullptr) return misused(scope, {name, " holds a NULL"});
        LDM_NEED(scope, out.push(given[index]));
    }
    return Status();
}

Status TakenOptions::read_texts(Scope& scope, const ldm_run_options& given) {
    if (given.prompt != nullptr && given.prompts != nullptr) {
        return scope.fail(codes::request_invalid, {"both prompt and prompts were given; give one of them"});
    }
    LDM_TRY(
        refuse_alone(scope, codes::request_invalid, given.prompts, {{"prompt_count", given.prompt_count}}, "prompts"));
    LDM_TRY(refuse_alone(scope, codes::request_array, given.prompt_embeds,
                         {{"embeds_count", given.embeds_count}, {"embeds_tokens", given.embeds_tokens},
                          {"embeds_width", given.embeds_width}}, "prompt_embeds"));
    LDM_TRY(refuse_alone(scope, codes::request_array, given.pooled_prompt_embeds,
                         {{"pooled_width", given.pooled_width}}, "pooled_prompt_embeds"));
    const char* const* prompts = given.prompt != nullptr ? &given.prompt : given.prompts;
    std::size_t count = given.prompt != nullptr ? 1 : given.prompt_count;
    std::size_t of_negatives = prompts != nullptr ? count : given.embeds_count;  // one for each prompt
    if (given.negatives == nullptr) of_negatives = 0;
    LDM_TRY(push_all(scope, "prompts", prompts, count, texts_));
    LDM_TRY(push_all(scope, "negatives", given.negatives, of_negatives, texts_));
    if (prompts != nullptr) options.prompts = View<std::string_view>{texts_.data(), count};
    if (given.negative != nullptr) options.negative = given.negative;
    if (given.negatives != nullptr) options.negatives = View<std::string_view>{texts_.data() + count, of_negatives};
    if (given.prompt_embeds != nullptr) {
        options.embeddings =
            Embeddings{given.prompt_embeds, given.embeds_count, given.embeds_tokens, given.embeds_width};
    }
    if (given.pooled_prompt_embeds != nullptr) {
        options.pooled_embeddings = PooledEmbeddings{given.pooled_prompt_embeds, given.pooled_width};
    }
    return Status();
}

Status TakenOptions::read_latents(Scope& scope, const ldm_run_options& given) {
    LDM_TRY(
        refuse_alone(scope, codes::request_array, given.latents, {{"latents_count", given.latents_count}}, "latents"));
    if (given.latents == nullptr) return Status();
    options.latents = View<float>{given.latents, given.latents_count};
    if (given.width != 0) return Status();
    return scope.fail(codes::request_size,
                      {"latents were given without width and height; give the size in pixels of the "
                       "images that they are for"});
}

Status TakenOptions::read_images(Scope& scope, const ldm_run_options& given) {
    LDM_TRY(refuse_alone(scope, codes::request_image, given.images, {{"image_count", given.image_count}}, "images"));
    if (given.images != nullptr && given.image_count == 0) {
        return scope.fail(codes::request_image, {"images is given, but image_count is 0; give the number of images"});
    }
    const auto* bytes = reinterpret_cast<const char*>(given.images);
    for (size_t index = 0; index < given.image_count; ++index) {
        size_t each = given.images->struct_size;  // of the caller's version
        const auto& image = *reinterpret_cast<const ldm_image*>(bytes + index * each);
        if (image.struct_size != each) {
            return misused(scope, {"images differ in struct_size; begin each with ldm_image_init"});
        }
        images::Samples samples;
        LDM_TRY(take_image(scope, image, "the image", samples));
        LDM_NEED(scope, start_images_.push(samples));
    }
    if (given.images != nullptr) options.start_images = start_images_.view();
    if (given.mask == nullptr) return Status();
    LDM_TRY(take_image(scope, *given.mask, "the mask", mask_));
    options.mask = &mask_;
    return Status();
}

Status TakenOptions::read_seeds(Scope& scope, const ldm_run_options& given) {
    if (given.seeds != nullptr && (given.has_seed != 0 || given.seed != 0)) {
        return scope.fail(codes::request_invalid, {"both seed and seeds were given; give one of them"});
    }
    LDM_TRY(refuse_alone(scope, codes::request_invalid, given.seeds, {{"seed_count", given.seed_count}}, "seeds"));
    if (given.seed != 0 && given.has_seed == 0) {
        return scope.fail(codes::request_invalid, {"seed is ", given.seed, ", but has_seed is 0; set it to 1, or leave "
                                                   "seed 0 for a random one"});
    }
    options.seed_is_chosen = given.seeds != nullptr || given.has_seed != 0;
    if (given.seeds != nullptr) options.seeds = View<std::uint64_t>{given.seeds, given.seed_count};
    options.seed = given.seed;
    return options.seed_is_chosen ? Status() : files::random_seed(scope, options.seed);
}

Status TakenOptions::read_sizes(Scope& scope, const ldm_run_options& given) {
    LDM_TRY(take_size(scope, "width and height", given.width, given.height, options.size));
    LDM_TRY(take_size(scope, "original_width and original_height", given.original_width, given.original_height,
                      options.original_size));
    LDM_TRY(take_size(scope, "target_width and target_height", given.target_width, given.target_height,
                      options.target_size));
    if (given.crop_top != 0 || given.crop_left != 0) options.crop_left_top = Size{given.crop_left, given.crop_top};
    return Status();
}

}  // namespace ldm::api

void ldm_run_options_init(ldm_run_options* options, size_t struct_size) {
    ldm::api::begin(options, struct_size, [](ldm_run_options& it) {
        it.guidance = it.strength = std::numeric_limits<double>::quiet_NaN();
        it.guidance_from = it.guidance_to = std::numeric_limits<double>::quiet_NaN();
    });
}
