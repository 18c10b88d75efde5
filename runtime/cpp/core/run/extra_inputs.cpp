#include "core/run/extra_inputs.h"

#include <cmath>

namespace ldm {

namespace {

constexpr double max_frequency_ratio = 10000.0;

}  // namespace

void image_sizes(const ImageSizes& sizes, float out[6]) {
    const std::int64_t numbers[6] = {sizes.original.height, sizes.original.width, sizes.top,
                                     sizes.left,            sizes.target.height,  sizes.target.width};
    for (int index = 0; index < 6; ++index) out[index] = static_cast<float>(numbers[index]);
}

// The angles go to thousands, so the last bit of a frequency counts: every step is rounded to float32 as there.
void guidance_embedding(double guidance, std::size_t width, float* out) {
    std::size_t half = width / 2;
    float step = static_cast<float>(std::log(max_frequency_ratio)) / static_cast<float>(half - 1);
    float scaled = static_cast<float>(guidance - 1.0) * 1000.0f;
    for (std::size_t index = 0; index < half; ++index) {
        float exponent = static_cast<float>(index) * -step;
        float angle = scaled * static_cast<float>(std::exp(static_cast<double>(exponent)));
        out[index] = static_cast<float>(std::sin(static_cast<double>(angle)));
        out[half + index] = static_cast<float>(std::cos(static_cast<double>(angle)));
    }
}

}  // namespace ldm
