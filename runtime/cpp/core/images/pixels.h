// Between levels, 0 to 255, and the values of a model, -1 to 1; and masks.
#ifndef LDM_CORE_IMAGES_PIXELS_H
#define LDM_CORE_IMAGES_PIXELS_H

#include "core/images/image.h"

namespace ldm::images {

// The values of an image without alpha, (3, height, width); grey is the same in all three.
void to_values(const Image& image, float* out);

// The levels of values (3, height, width), clipped to -1 and 1: (height, width, 3).
void to_levels(const float* values, std::size_t height, std::size_t width, std::uint8_t* out);

// Append the values of an image to start from: laid on white and scaled, (3, height, width). The image is used up.
Status start_values(Scope& scope, std::size_t width, std::size_t height, Image& image, Array<float>& out);

// Append the pixels to inpaint, 1 where a mask is at least half white, else 0: (height, width). Transparent ones are
// kept, as black ones are. The mask is used up.
Status inpainted(Scope& scope, std::size_t width, std::size_t height, Image& mask, Array<std::uint8_t>& out);

// Append the cells to inpaint, of each `step` x `step` pixels what its first one is: (ceil(height / step), ceil(width /
// step)). Code: request.image, where there is none.
Status on_grid(Scope& scope, const std::uint8_t* inpainted, std::size_t height, std::size_t width, std::size_t step,
               Array<float>& out);

}  // namespace ldm::images

#endif
