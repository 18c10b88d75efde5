// Measures of an array against a reference, in float64: max abs, relative RMS, PSNR, SSIM (Wang et al. 2004). The twin
// of ldm_export/verify/metrics.py.
#ifndef LDM_VERIFY_METRICS_H
#define LDM_VERIFY_METRICS_H

#include <cstddef>
#include <cstdint>

#include "core/memory.h"

namespace ldm::verify {

// The worst sample's figure of each kind. psnr: dB, infinite where nothing differs.
struct Figures {
    double relative_rms = 0.0;
    double max_abs = 0.0;
    double psnr = 0.0;
};

// Compare sample by sample, so that a wrong one is not diluted by right ones. samples: along axis 0, one at least;
// each: the numbers of one.
Figures compare_samples(const float* value, const float* reference, std::size_t samples, std::size_t each);

// PSNR in dB over the range of the reference; infinite where both are equal.
double psnr(const float* value, const float* reference, std::size_t count);

// PSNR in dB of bytes, over their range; infinite where both are equal.
double psnr(const std::uint8_t* value, const std::uint8_t* reference, std::size_t count);

// Mean structural similarity of two images (height, width, 3) of bytes, over Gaussian windows of 11 pixels, or fewer in
// a smaller image, wholly inside them. False where no memory is left.
[[nodiscard]] bool ssim(Allocator& memory, const std::uint8_t* value, const std::uint8_t* reference, std::size_t height,
                        std::size_t width, double& out);

// The largest difference of two bytes.
int max_levels(const std::uint8_t* value, const std::uint8_t* reference, std::size_t count);

}  // namespace ldm::verify

#endif
