// The size of a run's images, and the sizes that a model which reads them is told.
#include "core/codes.h"
#include "core/images/image.h"
#include "core/run/request_checks.h"

namespace ldm {

namespace {

constexpr std::int64_t most_side_given = std::int64_t{1} << 31, most_side_told = 1 << 20;  // pixels

// Whether the package draws images of that size. what: its name in sentences.
Status check_image_size(const Checking& its, Size size, std::initializer_list<Piece> what) {
    std::int64_t step = its.contract.latent.downsample;
    const TensorSpec& sample = its.contract.sample();
    auto refuse = [&](std::initializer_list<Piece> reason) {
        its.scope.failure.set(codes::request_size, what);
        its.scope.failure.add({" is ", size.width, "x", size.height, "; expected "});
        its.scope.failure.add(reason);
        return Status(codes::request_size);
    };
    for (bool is_width : {true, false}) {
        auto [low, high] = its.contract.range_of(sample.dims[is_width ? 3 : 2]);
        std::int64_t pixels = is_width ? size.width : size.height;
        if (pixels >= low * step && pixels <= high * step && pixels % step == 0) continue;
        return refuse({"a ", is_width ? "width" : "height", " that is a multiple of ", step, ", from ", low * step,
                       " to ", high * step});
    }
    if (size.width * size.height <= images::most_pixels) return Status();
    return refuse({"at most ", images::most_pixels, " pixels"});
}

// The image's own size, less what is over a multiple of the latents' grid.
Status size_of_image(const Checking& its, const images::Samples& image) {
    std::int64_t step = its.contract.latent.downsample;
    its.out.size = {image.width - image.width % step, image.height - image.height % step};
    return check_image_size(its, its.out.size, {"the size that the image of ", image.width, "x", image.height,
                                                " gives (name another with size)"});
}

// An interpolation has the package's size, not that of an image: its noise is drawn first.
Status choose_size(const Checking& its) {
    const RunOptions& options = its.options;
    if (!options.size && options.start_images && !options.latents && !options.to) {
        return size_of_image(its, (*options.start_images)[0]);
    }
    its.out.size = {its.contract.image.width, its.contract.image.height};
    if (!options.size) return Status();
    its.out.size = *options.size;
    LDM_TRY(check_integer(its.scope, "width", options.size->width, 1, most_side_given, codes::request_size));
    LDM_TRY(check_integer(its.scope, "height", options.size->height, 1, most_side_given, codes::request_size));
    return check_image_size(its, its.out.size, {"size"});
}

// Two numbers, of which each has a name in sentences: width and height, or left and top.
struct Told {
    std::string_view name, first, second;
    std::optional<Size> given;
    std::int64_t low;
};

Status read_told(const Checking& its, const Told& told, Size otherwise, Size& out) {
    out = told.given.value_or(otherwise);
    if (!told.given) return Status();
    for (bool is_first : {true, false}) {
        std::int64_t value = is_first ? out.width : out.height;
        if (value >= told.low && value <= most_side_told) continue;
        return its.scope.fail(codes::request_size,
                              {"the ", is_first ? told.first : told.second, " of ", told.name, " is ", value,
                               "; expected an integer from ", told.low, " to ", most_side_told});
    }
    return Status();
}

}  // namespace

Status read_size(const Checking& its) {
    LDM_TRY(choose_size(its));
    if (!its.options.latents) return Status();
    LDM_TRY(check_image_size(its, its.out.size, {"the size of latents"}));
    std::size_t each = static_cast<std::size_t>(its.contract.latent.channels) * its.out.latent_height(its.contract) *
                       its.out.latent_width(its.contract);
    View<float> given = *its.options.latents;
    if (given.size == its.out.batch * each) return its.copy("latents", given.data, given.size, its.out.latents);
    return its.scope.fail(codes::request_array, {"latents has ", given.size, " numbers; expected those of (",
                          its.out.batch, ", ", its.contract.latent.channels, ", ", its.out.latent_height(its.contract),
                          ", ", its.out.latent_width(its.contract), ")"});
}

Status read_sizes_told(const Checking& its) {
    std::optional<Size> top_left = its.options.crop_left_top;
    if (top_left) top_left = Size{top_left->height, top_left->width};
    const Told all[] = {{"original_size", "width", "height", its.options.original_size, 1},
                        {"crop_top_left", "top", "left", top_left, 0},
                        {"target_size", "width", "height", its.options.target_size, 1}};
    for (const Told& told : all) {
        if (!told.given || its.contract.reads_sizes()) continue;
        return its.scope.fail(codes::request_size,
                              {told.name, " was given, but this model does not read it; leave it out"});
    }
    Size corner;
    LDM_TRY(read_told(its, all[0], its.out.size, its.out.sizes.original));
    LDM_TRY(read_told(its, all[1], {0, 0}, corner));
    LDM_TRY(read_told(its, all[2], its.out.size, its.out.sizes.target));
    its.out.sizes.top = corner.width;
    its.out.sizes.left = corner.height;
    return Status();
}

}  // namespace ldm
