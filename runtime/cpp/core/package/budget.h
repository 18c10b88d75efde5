// The budget of an image: how far it may be from the exact one, as a user says it in a text.
#ifndef LDM_CORE_PACKAGE_BUDGET_H
#define LDM_CORE_PACKAGE_BUDGET_H

#include <optional>
#include <string_view>

#include "core/package/variants.h"
#include "core/status.h"

namespace ldm {

// The least likeness of the worst image to the exact one, from the same noise.
struct Budget {
    enum class Kind { exact, psnr, ssim } kind = Kind::exact;
    double value = 0.0;  // PSNR in dB over bytes, or SSIM from 0 to 1

    // Whether measured figures are within it. "exact" holds for none: images that were equal in a measurement may
    // differ in the next run.
    bool holds(const MeasuredError& error) const;
};

// Read "exact", "psnr=35" or "ssim=0.95". Code: request.invalid.
Status read_budget(Scope& scope, std::string_view text, Budget& out);

}  // namespace ldm

#endif
