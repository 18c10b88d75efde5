#include "core/images/resample.h"

#include <cmath>

namespace ldm::images {

namespace {

constexpr double lobes = 3.0;
constexpr int fraction_bits = 22;  // of weights: 8 bits for the level, 2 for sums beyond it
constexpr double pi = 3.14159265358979323846;

double sinc(double x) {
    if (x == 0.0) return 1.0;
    double angle = x * pi;
    return std::sin(angle) / angle;
}

double lanczos(double x) { return x >= -lobes && x < lobes ? sinc(x) * sinc(x / lobes) : 0.0; }

// The inputs that one output is made of.
struct Window {
    std::size_t first, count;
    std::size_t weights;  // where its weights begin
};

struct Axis {
    Array<Window> windows;       // one for each output
    Array<std::int32_t> weights;

    explicit Axis(Allocator& memory) : windows(memory), weights(memory) {}
};

std::int32_t fixed(double weight) {
    double scaled = weight * (1 << fraction_bits);
    return static_cast<std::int32_t>(scaled < 0 ? scaled - 0.5 : scaled + 0.5);
}

// Weights of a length that becomes another one. The filter is as wide as a step between outputs where that is longer
// than one input.
Status measure(Scope& scope, std::size_t from, std::size_t to, Axis& axis) {
    double step = static_cast<double>(from) / static_cast<double>(to);
    double stretch = step < 1.0 ? 1.0 : step;
    double reach = lobes * stretch, per_input = 1.0 / stretch;
    Array<double> shares(scope.memory);
    LDM_NEED(scope, axis.windows.reserve(to));
    for (std::size_t output = 0; output < to; ++output) {
        double centre = (static_cast<double>(output) + 0.5) * step;
        double low = centre - reach + 0.5, high = centre + reach + 0.5;
        std::size_t first = low < 0.0 ? 0 : static_cast<std::size_t>(low);
        std::size_t last = high > static_cast<double>(from) ? from : static_cast<std::size_t>(high);
        double sum = 0.0;
        shares.shrink(0);
        for (std::size_t input = 0; input < last - first; ++input) {
            double at = static_cast<double>(input) + static_cast<double>(first) - centre + 0.5;
            double share = lanczos(at * per_input);
            LDM_NEED(scope, shares.push(share));
            sum += share;
        }
        LDM_NEED(scope, axis.windows.push({first, last - first, axis.weights.size()}));
        for (double share : shares) LDM_NEED(scope, axis.weights.push(fixed(sum == 0.0 ? share : share / sum)));
    }
    return Status();
}

std::uint8_t rounded(std::int32_t sum) {
    std::int32_t level = sum >> fraction_bits;  // of a negative sum downwards
    return static_cast<std::uint8_t>(level < 0 ? 0 : level > 255 ? 255 : level);
}

constexpr std::int32_t half = 1 << (fraction_bits - 1);

Status scale_rows(Scope& scope, std::size_t width, Image& image) {
    Axis axis(scope.memory);
    LDM_TRY(measure(scope, image.width, width, axis));
    Array<std::uint8_t> scaled(scope.memory);
    std::size_t channels = image.channels;
    LDM_NEED(scope, scaled.resize(width * image.height * channels));
    std::uint8_t* to = scaled.data();
    for (std::size_t y = 0; y < image.height; ++y) {
        const std::uint8_t* row = image.levels.data() + y * image.width * channels;
        for (const Window& window : axis.windows) {
            for (std::size_t channel = 0; channel < channels; ++channel) {
                const std::uint8_t* from = row + window.first * channels + channel;
                const std::int32_t* weights = axis.weights.data() + window.weights;
                std::int32_t sum = half;
                for (std::size_t input = 0; input < window.count; ++input) {
                    sum += weights[input] * from[input * channels];
                }
                *to++ = rounded(sum);
            }
        }
    }
    image.levels = static_cast<Array<std::uint8_t>&&>(scaled);
    image.width = width;
    return Status();
}

Status scale_columns(Scope& scope, std::size_t height, Image& image) {
    Axis axis(scope.memory);
    LDM_TRY(measure(scope, image.height, height, axis));
    Array<std::uint8_t> scaled(scope.memory);
    Array<std::int32_t> sums(scope.memory);
    std::size_t row = image.width * image.channels;
    LDM_NEED(scope, scaled.resize(height * row) && sums.resize(row));
    std::uint8_t* to = scaled.data();
    for (const Window& window : axis.windows) {
        for (std::int32_t& sum : sums) sum = half;
        for (std::size_t input = 0; input < window.count; ++input) {
            std::int32_t weight = axis.weights[window.weights + input];
            const std::uint8_t* from = image.levels.data() + (window.first + input) * row;
            for (std::size_t index = 0; index < row; ++index) sums[index] += weight * from[index];
        }
        for (std::int32_t sum : sums) *to++ = rounded(sum);
    }
    image.levels = static_cast<Array<std::uint8_t>&&>(scaled);
    image.height = height;
    return Status();
}

}  // namespace

// Where the height loses more than twice as many pixels as the width, columns are first, which is less work. The order
// is seen in the result, since levels are clipped in between.
Status scale(Scope& scope, std::size_t width, std::size_t height, Image& image) {
    auto lost = [](std::size_t from, std::size_t to) { return static_cast<double>(from) - static_cast<double>(to); };
    double rows = lost(image.height, height);
    bool columns_first = rows > 0.0 && rows > 2.0 * lost(image.width, width);
    if (columns_first) LDM_TRY(scale_columns(scope, height, image));
    if (width != image.width) LDM_TRY(scale_rows(scope, width, image));
    if (height != image.height) LDM_TRY(scale_columns(scope, height, image));
    return Status();
}

}  // namespace ldm::images
