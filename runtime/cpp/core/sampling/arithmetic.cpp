#include "core/sampling/arithmetic.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace ldm::sampling {

namespace {

// The linear quantile `ratio` of |data|, as numpy interpolates float32 values; NaN where one is.
float quantile_of_size(const float* data, double ratio, std::size_t count, float* scratch) {
    for (std::size_t i = 0; i < count; ++i) scratch[i] = std::fabs(data[i]);
    if (std::any_of(scratch, scratch + count, [](float value) { return std::isnan(value); })) {
        return std::numeric_limits<float>::quiet_NaN();
    }
    double place = static_cast<double>(count - 1) * ratio;
    auto low = std::min(static_cast<std::size_t>(place), count - 1);
    std::nth_element(scratch, scratch + low, scratch + count);
    float below = scratch[low];
    float above = low + 1 < count ? *std::min_element(scratch + low + 1, scratch + count) : below;
    double weight = place - static_cast<double>(low);
    float apart = above - below;
    return weight >= 0.5 ? above - apart * static_cast<float>(1.0 - weight)
                         : below + apart * static_cast<float>(weight);
}

// The standard deviation of a sample.
float deviation(const float* values, std::size_t count) {
    double sum = 0.0, squares = 0.0;
    for (std::size_t i = 0; i < count; ++i) sum += static_cast<double>(values[i]);
    double mean = sum / static_cast<double>(count);
    for (std::size_t i = 0; i < count; ++i) {
        double away = static_cast<double>(values[i]) - mean;
        squares += away * away;
    }
    return static_cast<float>(std::sqrt(squares / static_cast<double>(count - 1)));
}

double dot(const float* one, const float* other, std::size_t count) {
    double sum = 0.0;
    for (std::size_t i = 0; i < count; ++i) sum += static_cast<double>(one[i]) * static_cast<double>(other[i]);
    return sum;
}

}  // namespace

bool all_finite(const float* values, std::size_t count) {
    return std::all_of(values, values + count, [](float value) { return std::isfinite(value); });
}

void scale(const float* from, double factor, std::size_t count, float* out) {
    auto rounded = static_cast<float>(factor);
    for (std::size_t i = 0; i < count; ++i) out[i] = from[i] * rounded;
}

void noised(const PlanRow& row, const float* image, const float* noise, std::size_t count, float* out) {
    auto keep = static_cast<float>(row.alpha / row.input_scale), add = static_cast<float>(row.sigma / row.input_scale);
    for (std::size_t i = 0; i < count; ++i) out[i] = keep * image[i] + add * noise[i];
}

void weighted_sum(const float* coefficients, const float* const* tensors, std::size_t terms, std::size_t count,
                  float* out) {
    bool is_first = true;
    for (std::size_t term = 0; term < terms; ++term) {
        float coefficient = coefficients[term];
        const float* tensor = tensors[term];
        if (coefficient == 0.0f) continue;
        if (is_first) {
            for (std::size_t i = 0; i < count; ++i) out[i] = tensor[i] * coefficient;
        } else {
            for (std::size_t i = 0; i < count; ++i) out[i] += tensor[i] * coefficient;
        }
        is_first = false;
    }
    if (is_first) std::fill(out, out + count, 0.0f);
}

void data_prediction(const PlanRow& row, const float* x, const float* output, std::size_t count, float* out) {
    const float coefficients[] = {static_cast<float>(row.data_x), static_cast<float>(row.data_output)};
    const float* const tensors[] = {x, output};
    weighted_sum(coefficients, tensors, 2, count, out);
}

void clip(const Hook& hook, std::size_t batch, std::size_t each, float* data, float* scratch) {
    auto limit = static_cast<float>(hook.limit);
    if (hook.kind == Hook::Kind::clip) {
        for (std::size_t i = 0; i < batch * each; ++i) data[i] = std::clamp(data[i], -limit, limit);
        return;
    }
    for (std::size_t image = 0; image < batch; ++image, data += each) {
        float bound = std::clamp(quantile_of_size(data, hook.ratio, each, scratch), 1.0f, limit);
        for (std::size_t i = 0; i < each; ++i) data[i] = std::clamp(data[i], -bound, bound) / bound;
    }
}

void guide(const float* uncond, const float* cond, double scale, double rescale, std::size_t batch, std::size_t each,
           float* out) {
    auto factor = static_cast<float>(scale);
    for (std::size_t image = 0; image < batch; ++image, uncond += each, cond += each, out += each) {
        float wanted = rescale > 0.0 ? deviation(cond, each) : 0.0f;
        for (std::size_t i = 0; i < each; ++i) out[i] = (cond[i] - uncond[i]) * factor + uncond[i];
        if (!(rescale > 0.0)) continue;
        float back = static_cast<float>(rescale) * (wanted / deviation(out, each)) + static_cast<float>(1.0 - rescale);
        for (std::size_t i = 0; i < each; ++i) out[i] *= back;
    }
}

void slerp(const float* start, const float* stop, double share, std::size_t count, float* out) {
    double sizes = std::sqrt(dot(start, start, count)) * std::sqrt(dot(stop, stop, count));
    double angle = std::acos(std::clamp(dot(start, stop, count) / sizes, -1.0, 1.0));
    double whole = std::sin(angle);
    bool is_straight = whole < 1e-6;  // the same direction, or the opposite one
    double first = is_straight ? 1.0 - share : std::sin((1.0 - share) * angle);
    double second = is_straight ? share : std::sin(share * angle);
    double divisor = is_straight ? 1.0 : whole;
    for (std::size_t i = 0; i < count; ++i) {
        out[i] = static_cast<float>((first * static_cast<double>(start[i]) + second * static_cast<double>(stop[i])) /
                                    divisor);
    }
}

void lay_over(const float* kept, const float* mask, std::size_t plane, std::size_t count, float* x) {
    for (std::size_t first = 0; first < count; first += plane) {
        for (std::size_t i = 0; i < plane; ++i) {
            x[first + i] = (1.0f - mask[i]) * kept[first + i] + mask[i] * x[first + i];
        }
    }
}

}  // namespace ldm::sampling
