#include "src/verify/metrics.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <limits>

namespace ldm::verify {

namespace {

constexpr double infinity = std::numeric_limits<double>::infinity();

constexpr std::size_t ssim_window = 11;  // pixels
constexpr double ssim_deviation = 1.5, ssim_k1 = 0.01, ssim_k2 = 0.03;
constexpr double peak = 255.0;

double mean_square_difference(const float* value, const float* reference, std::size_t count) {
    double sum = 0.0;
    for (std::size_t index = 0; index < count; ++index) {
        double difference = static_cast<double>(value[index]) - static_cast<double>(reference[index]);
        sum += difference * difference;
    }
    return sum / static_cast<double>(count);
}

double relative_rms(const float* value, const float* reference, std::size_t count) {
    double sum = 0.0;
    for (std::size_t index = 0; index < count; ++index) {
        sum += static_cast<double>(reference[index]) * static_cast<double>(reference[index]);
    }
    double error = std::sqrt(mean_square_difference(value, reference, count));
    double scale = std::sqrt(sum / static_cast<double>(count));
    if (scale == 0.0) return error == 0.0 ? 0.0 : infinity;
    return error / scale;
}

double max_abs(const float* value, const float* reference, std::size_t count) {
    double largest = 0.0;
    for (std::size_t index = 0; index < count; ++index) {
        largest =
            std::max(largest, std::fabs(static_cast<double>(value[index]) - static_cast<double>(reference[index])));
    }
    return largest;
}

// One channel of two images, and the windows over them.
class Similarity {
public:
    Similarity(Allocator& memory, std::size_t height, std::size_t width)
        : height_(height), width_(width), rows_(memory), means_{Array<double>(memory), Array<double>(memory),
          Array<double>(memory), Array<double>(memory), Array<double>(memory)} {
        std::size_t limit = std::min({height, width, ssim_window});
        size_ = limit % 2 == 1 ? limit : limit - 1;
        double total = 0.0;
        for (std::size_t index = 0; index < size_; ++index) {
            double offset = static_cast<double>(index) - static_cast<double>(size_ / 2);
            total += weights_[index] = std::exp(-(offset * offset) / (2.0 * ssim_deviation * ssim_deviation));
        }
        for (double& weight : weights_) weight /= total;
    }

    [[nodiscard]] bool make_room() {
        bool fits = rows_.resize((height_ - size_ + 1) * width_);
        for (Array<double>& each : means_) fits = fits && each.resize(windows());
        return fits;
    }
    std::size_t windows() const { return (height_ - size_ + 1) * (width_ - size_ + 1); }

    // The sum over all windows of one channel, of three.
    double sum(const std::uint8_t* first, const std::uint8_t* second) {
        auto x = [=](std::size_t pixel) { return static_cast<double>(first[3 * pixel]); };
        auto y = [=](std::size_t pixel) { return static_cast<double>(second[3 * pixel]); };
        filter(x, means_[0]);
        filter(y, means_[1]);
        filter([=](std::size_t pixel) { return x(pixel) * x(pixel); }, means_[2]);
        filter([=](std::size_t pixel) { return y(pixel) * y(pixel); }, means_[3]);
        filter([=](std::size_t pixel) { return x(pixel) * y(pixel); }, means_[4]);
        constexpr double c1 = ssim_k1 * peak * (ssim_k1 * peak), c2 = ssim_k2 * peak * (ssim_k2 * peak);
        double total = 0.0;
        for (std::size_t index = 0; index < windows(); ++index) {
            double mean_x = means_[0][index], mean_y = means_[1][index];
            double variances = means_[2][index] - mean_x * mean_x + means_[3][index] - mean_y * mean_y;
            double covariance = means_[4][index] - mean_x * mean_y;
            double luminance = (2.0 * mean_x * mean_y + c1) / (mean_x * mean_x + mean_y * mean_y + c1);
            total += luminance * ((2.0 * covariance + c2) / (variances + c2));
        }
        return total;
    }

private:
    // The weighted mean over each window, along the columns and then along the rows.
    template <typename Pixel>
    void filter(Pixel pixel, Array<double>& out) {
        std::size_t high = height_ - size_ + 1, wide = width_ - size_ + 1;
        for (std::size_t index = 0; index < high * width_; ++index) {
            double sum = 0.0;
            for (std::size_t at = 0; at < size_; ++at) sum += weights_[at] * pixel(index + at * width_);
            rows_[index] = sum;
        }
        for (std::size_t row = 0; row < high; ++row) {
            for (std::size_t column = 0; column < wide; ++column) {
                double sum = 0.0;
                for (std::size_t at = 0; at < size_; ++at) sum += weights_[at] * rows_[row * width_ + column + at];
                out[row * wide + column] = sum;
            }
        }
    }

    std::size_t height_, width_, size_ = 1;
    double weights_[ssim_window] = {};
    Array<double> rows_, means_[5];  // of x, y, x * x, y * y, x * y
};

}  // namespace

double psnr(const float* value, const float* reference, std::size_t count) {
    double error = mean_square_difference(value, reference, count);
    if (error == 0.0) return infinity;
    auto [low, high] = std::minmax_element(reference, reference + count);
    double span = static_cast<double>(*high) - static_cast<double>(*low);
    return span == 0.0 ? -infinity : 10.0 * std::log10(span * span / error);
}

double psnr(const std::uint8_t* value, const std::uint8_t* reference, std::size_t count) {
    double sum = 0.0;
    for (std::size_t index = 0; index < count; ++index) {
        double difference = static_cast<double>(value[index]) - static_cast<double>(reference[index]);
        sum += difference * difference;
    }
    return sum == 0.0 ? infinity : 10.0 * std::log10(peak * peak / (sum / static_cast<double>(count)));
}

Figures compare_samples(const float* value, const float* reference, std::size_t samples, std::size_t each) {
    Figures worst{0.0, 0.0, infinity};
    for (std::size_t sample = 0; sample < samples; ++sample) {
        const float *its = value + sample * each, *other = reference + sample * each;
        worst.relative_rms = std::max(worst.relative_rms, relative_rms(its, other, each));
        worst.max_abs = std::max(worst.max_abs, max_abs(its, other, each));
        worst.psnr = std::min(worst.psnr, psnr(its, other, each));
    }
    return worst;
}

bool ssim(Allocator& memory, const std::uint8_t* value, const std::uint8_t* reference, std::size_t height,
          std::size_t width, double& out) {
    Similarity similarity(memory, height, width);
    if (!similarity.make_room()) return false;
    double sum = 0.0;
    for (std::size_t channel = 0; channel < 3; ++channel) sum += similarity.sum(value + channel, reference + channel);
    out = sum / static_cast<double>(3 * similarity.windows());
    return true;
}

int max_levels(const std::uint8_t* value, const std::uint8_t* reference, std::size_t count) {
    int largest = 0;
    for (std::size_t index = 0; index < count; ++index)
        largest = std::max(largest, std::abs(value[index] - reference[index]));
    return largest;
}

}  // namespace ldm::verify
