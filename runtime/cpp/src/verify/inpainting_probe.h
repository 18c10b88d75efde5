// The image and the mask with which a sampling run of an inpainting model is compared: noise, and about its right half
// to inpaint. The twin of ldm_export/verify/inpainting_probe.py, whose image comes from numpy's generator, seed 7.
#ifndef LDM_VERIFY_INPAINTING_PROBE_H
#define LDM_VERIFY_INPAINTING_PROBE_H

#include <cstddef>
#include <cstdint>

#include "core/memory.h"
#include "core/package/contract.h"
#include "core/status.h"
#include "src/verify/reference.h"

namespace ldm::verify {

// Bytes (height, width, 3). False where no memory is left.
[[nodiscard]] bool probe_image(std::size_t width, std::size_t height, Array<std::uint8_t>& out);

// 255 where the image is inpainted, else 0: (height, width). step: pixels of the image per pixel of the latents, of
// which the width is a multiple.
[[nodiscard]] bool probe_mask(std::size_t width, std::size_t height, std::size_t step, Array<std::uint8_t>& out);

// Fail if an inpainting model's reference was computed with another mask, which its captured inputs have:
// proof.invalid.
Status require_same_probe(Scope& scope, Reference& reference, const Contract& contract);

}  // namespace ldm::verify

#endif
