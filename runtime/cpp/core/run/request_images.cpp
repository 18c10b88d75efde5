// The images that a run starts from, and their pixels at the size that is drawn.
#include "core/codes.h"
#include "core/images/pixels.h"
#include "core/run/request_checks.h"

namespace ldm {

namespace {

constexpr double image_strength = 0.8, mask_strength = 1.0;  // what is taken where none is given, as in diffusers

Status check_start_images(const Checking& its) {
    const RunOptions& options = its.options;
    if (!options.start_images) {
        if (options.mask == nullptr && !options.strength) return Status();
        return its.scope.fail(codes::request_image, {options.mask != nullptr ? "mask" : "strength",
                              " was given without an image; give the image that it is for"});
    }
    std::size_t count = options.start_images->size;
    if (count == 0) {
        return its.scope.fail(codes::request_image,
                              {"image is an empty list; expected an image or a list of at least one"});
    }
    if (count != 1 && count != its.out.batch) {
        return its.scope.fail(codes::request_image, {"image has ", count, " images for a batch of ", its.out.batch,
                              "; give one, or one for each"});
    }
    for (const images::Samples& samples : *options.start_images) {
        LDM_TRY(images::check_samples(its.scope, samples, "the image"));
    }
    if (options.mask != nullptr) LDM_TRY(images::check_samples(its.scope, *options.mask, "the mask"));
    its.out.start_image_count = count;
    its.out.strength = options.strength.value_or(options.mask == nullptr ? image_strength : mask_strength);
    return check_share(its.scope, "strength", *its.out.strength);
}

// The pixels to start from, grey where they are inpainted.
Status grey_where(const Checking& its, const Array<std::uint8_t>& inpainted) {
    View<float> pixels = its.out.pixels;
    auto* masked = its.arena.make<float>(pixels.size);
    LDM_NEED(its.scope, masked != nullptr);
    for (std::size_t index = 0; index < pixels.size; ++index) {
        masked[index] = inpainted[index % inpainted.size()] ? 0.0f : pixels[index];
    }
    its.out.masked_pixels = {masked, pixels.size};
    return Status();
}

}  // namespace

Status check_images(const Checking& its) {
    LDM_TRY(check_start_images(its));
    if (!its.contract.inpaints() || (its.options.start_images && its.options.mask != nullptr)) return Status();
    return its.scope.fail(codes::request_invalid,
                          {"this model inpaints; give an image and a mask (all white for all of it)"});
}

Status read_pixels(const Checking& its) {
    if (!its.options.start_images) return Status();
    auto width = static_cast<std::size_t>(its.out.size.width), height = static_cast<std::size_t>(its.out.size.height);
    Array<float> values(its.scope.memory);
    for (const images::Samples& samples : *its.options.start_images) {
        images::Image image(its.scope.memory);
        LDM_TRY(images::settle(its.scope, samples, "the image", image));
        its.out.image_is_transparent |= image.channels == 4;
        LDM_TRY(images::start_values(its.scope, width, height, image, values));
    }
    LDM_NEED(its.scope, its.arena.copy(values.data(), values.size(), its.out.pixels));
    return Status();
}

Status read_mask(const Checking& its) {
    if (its.options.mask == nullptr) return Status();
    auto width = static_cast<std::size_t>(its.out.size.width), height = static_cast<std::size_t>(its.out.size.height);
    images::Image image(its.scope.memory);
    Array<std::uint8_t> inpainted(its.scope.memory);  // (height, width), 1 where the image is inpainted
    Array<float> cells(its.scope.memory);             // (h, w)
    LDM_TRY(images::settle(its.scope, *its.options.mask, "the mask", image));
    its.out.mask_is_transparent = image.channels == 4;
    LDM_TRY(images::inpainted(its.scope, width, height, image, inpainted));
    auto step = static_cast<std::size_t>(its.contract.latent.downsample);
    LDM_TRY(images::on_grid(its.scope, inpainted.data(), height, width, step, cells));
    LDM_NEED(its.scope, its.arena.copy(cells.data(), cells.size(), its.out.mask));
    return its.contract.inpaints() ? grey_where(its, inpainted) : Status();
}

}  // namespace ldm
