// Lanczos resampling in 8 bits, to the bit as Pillow 13 does it: each axis by itself, in fixed point, rounded in
// between. Older versions of Pillow always scale the width first.
#ifndef LDM_CORE_IMAGES_RESAMPLE_H
#define LDM_CORE_IMAGES_RESAMPLE_H

#include "core/images/image.h"

namespace ldm::images {

// Scale an image without alpha, whatever its shape was; one of that size stays as it is.
Status scale(Scope& scope, std::size_t width, std::size_t height, Image& image);

}  // namespace ldm::images

#endif
