#include "core/images/image.h"

#include "core/codes.h"

namespace ldm::images {

namespace {

// Sample `index` of a row in 8 bits.
std::uint8_t level(const unsigned char* row, std::size_t index, const Samples& samples) {
    if (samples.bits == 8) return row[index];
    std::uint16_t sample;
    std::memcpy(&sample, row + 2 * index, sizeof sample);
    return samples.channels == 1 ? nearest_level(sample) : static_cast<std::uint8_t>(sample >> 8);
}

std::size_t packed_row(const Samples& samples) {
    return static_cast<std::size_t>(samples.width) * static_cast<std::size_t>(samples.channels) *
           (samples.bits == 16 ? 2 : 1);
}

}  // namespace

Status check_size(Scope& scope, std::int64_t width, std::int64_t height, std::string_view what) {
    if (width < 1 || height < 1) {
        return scope.fail(codes::request_image, {what, " is ", width, "x", height, "; expected at least one pixel"});
    }
    if (width > most_pixels / height) {
        return scope.fail(codes::request_image,
                          {what, " has ", width, "x", height, " pixels, more than ", most_pixels, "; scale it down"});
    }
    if (width > most_side || height > most_side) {
        return scope.fail(codes::request_image, {what, " has ", width, "x", height,
                                                 " pixels; expected sides of at most ", most_side, "; scale it down"});
    }
    return Status();
}

Status check_samples(Scope& scope, const Samples& samples, std::string_view what) {
    LDM_TRY(check_size(scope, samples.width, samples.height, what));
    if (samples.channels < 1 || samples.channels > 4) {
        return scope.fail(codes::request_image, {what, " has ", samples.channels, " channels; expected 1 to 4"});
    }
    if (samples.bits != 8 && samples.bits != 16) {
        return scope.fail(codes::request_image, {what, " has ", samples.bits, " bits; expected 8 or 16"});
    }
    if (samples.data == nullptr) return scope.fail(codes::request_image, {what, " has no pixels; give its samples"});
    if (samples.row_bytes != 0 && samples.row_bytes < packed_row(samples)) {
        return scope.fail(codes::request_image, {what, " has rows of ", samples.row_bytes, " bytes; expected at least ",
                                                 packed_row(samples), ", or 0 for rows that follow one another"});
    }
    return Status();
}

Status settle(Scope& scope, const Samples& samples, std::string_view what, Image& out) {
    LDM_TRY(check_samples(scope, samples, what));
    auto width = static_cast<std::size_t>(samples.width), height = static_cast<std::size_t>(samples.height);
    auto channels = static_cast<std::size_t>(samples.channels);
    std::size_t colours = channels == 2 ? 4 : channels;  // grey and alpha become RGB and alpha
    LDM_NEED(scope, out.levels.resize(width * height * colours));
    out.levels.shrink(width * height * colours);
    out.width = width;
    out.height = height;
    out.channels = colours;
    std::uint8_t* to = out.levels.data();
    std::size_t stride = samples.row_bytes == 0 ? packed_row(samples) : samples.row_bytes;
    for (std::size_t y = 0; y < height; ++y) {
        const unsigned char* row = static_cast<const unsigned char*>(samples.data) + y * stride;
        for (std::size_t index = 0; index < width * channels; ++index) {
            std::uint8_t value = level(row, index, samples);
            std::size_t times = channels == 2 && index % 2 == 0 ? 3 : 1;
            for (std::size_t time = 0; time < times; ++time) *to++ = value;
        }
    }
    drop_opaque_alpha(out);
    return Status();
}

void drop_opaque_alpha(Image& image) {
    if (image.channels != 4) return;
    for (std::size_t index = 3; index < image.levels.size(); index += 4) {
        if (image.levels[index] != 255) return;
    }
    lay_on(0, image);
}

// In integers as Pillow rounds: (level * alpha + background * (255 - alpha)) / 255 to the nearest.
void lay_on(std::uint8_t background, Image& image) {
    if (image.channels != 4) return;
    std::size_t pixels = image.width * image.height;
    std::uint8_t* levels = image.levels.data();
    for (std::size_t pixel = 0; pixel < pixels; ++pixel) {
        unsigned alpha = levels[4 * pixel + 3];
        for (std::size_t channel = 0; channel < 3; ++channel) {
            unsigned sum = levels[4 * pixel + channel] * alpha + background * (255 - alpha) + 128;
            levels[3 * pixel + channel] = static_cast<std::uint8_t>(((sum << 7 >> 8) + (sum << 7)) >> 15);
        }
    }
    image.levels.shrink(3 * pixels);
    image.channels = 3;
}

Status turn(Scope& scope, int orientation, Image& image) {
    if (orientation < 2 || orientation > 8) return Status();
    bool lies = orientation >= 5;  // rows become columns
    bool right_to_left = orientation == 2 || orientation == 3 || orientation == 7 || orientation == 8;
    bool upwards = orientation == 3 || orientation == 4 || orientation == 6 || orientation == 7;
    Image turned(scope.memory);
    turned.width = lies ? image.height : image.width;
    turned.height = lies ? image.width : image.height;
    turned.channels = image.channels;
    LDM_NEED(scope, turned.levels.resize(image.levels.size()));
    std::uint8_t* to = turned.levels.data();
    for (std::size_t y = 0; y < turned.height; ++y) {
        for (std::size_t x = 0; x < turned.width; ++x) {
            std::size_t column = lies ? y : x, row = lies ? x : y;  // of the image that is turned
            if (right_to_left) column = image.width - 1 - column;
            if (upwards) row = image.height - 1 - row;
            const std::uint8_t* from = image.levels.data() + (row * image.width + column) * image.channels;
            for (std::size_t channel = 0; channel < image.channels; ++channel) *to++ = from[channel];
        }
    }
    image = static_cast<Image&&>(turned);
    return Status();
}

}  // namespace ldm::images
