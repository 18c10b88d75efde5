#include "core/images/pixels.h"

#include <cmath>

#include "core/codes.h"
#include "core/images/resample.h"

namespace ldm::images {

namespace {

// Luminance of ITU-R 601 in 16 bits, as Pillow weighs it.
std::uint8_t grey(const std::uint8_t* rgb) {
    return static_cast<std::uint8_t>((rgb[0] * 19595u + rgb[1] * 38470u + rgb[2] * 7471u + 0x8000u) >> 16);
}

}  // namespace

void to_values(const Image& image, float* out) {
    std::size_t pixels = image.width * image.height;
    for (std::size_t channel = 0; channel < 3; ++channel) {
        const std::uint8_t* from = image.levels.data() + (image.channels == 1 ? 0 : channel);
        for (std::size_t pixel = 0; pixel < pixels; ++pixel) {
            *out++ = static_cast<float>(from[pixel * image.channels]) / 127.5f - 1.0f;
        }
    }
}

void to_levels(const float* values, std::size_t height, std::size_t width, std::uint8_t* out) {
    std::size_t pixels = height * width;
    for (std::size_t pixel = 0; pixel < pixels; ++pixel) {
        for (std::size_t channel = 0; channel < 3; ++channel) {
            float share = values[channel * pixels + pixel] * 0.5f + 0.5f;
            share = share > 0.0f ? share < 1.0f ? share : 1.0f : 0.0f;  // what is no number becomes 0
            *out++ = static_cast<std::uint8_t>(std::nearbyint(share * 255.0f));
        }
    }
}

Status start_values(Scope& scope, std::size_t width, std::size_t height, Image& image, Array<float>& out) {
    lay_on(255, image);
    LDM_TRY(scale(scope, width, height, image));
    std::size_t before = out.size();
    LDM_NEED(scope, out.resize(before + 3 * width * height));
    to_values(image, out.data() + before);
    return Status();
}

Status inpainted(Scope& scope, std::size_t width, std::size_t height, Image& mask, Array<std::uint8_t>& out) {
    lay_on(0, mask);
    LDM_TRY(scale(scope, width, height, mask));
    std::size_t pixels = width * height;
    LDM_NEED(scope, out.reserve(out.size() + pixels));
    for (std::size_t pixel = 0; pixel < pixels; ++pixel) {
        const std::uint8_t* levels = mask.levels.data() + pixel * mask.channels;
        std::uint8_t white = mask.channels == 1 ? levels[0] : grey(levels);
        LDM_NEED(scope, out.push(white >= 128));  // 127 is less than half of 255
    }
    return Status();
}

Status on_grid(Scope& scope, const std::uint8_t* inpainted, std::size_t height, std::size_t width, std::size_t step,
               Array<float>& out) {
    bool any = false;
    for (std::size_t y = 0; y < height; y += step) {
        for (std::size_t x = 0; x < width; x += step) {
            bool paints = inpainted[y * width + x] != 0;
            any = any || paints;
            LDM_NEED(scope, out.push(paints ? 1.0f : 0.0f));
        }
    }
    if (any) return Status();
    return scope.fail(codes::request_image, {"the mask is black everywhere, so nothing would be inpainted; paint the "
                                             "part to inpaint white"});
}

}  // namespace ldm::images
