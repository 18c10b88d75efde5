// Inputs of a denoiser besides latents, timestep and context, each made by the rule that the contract names.
#ifndef LDM_CORE_RUN_EXTRA_INPUTS_H
#define LDM_CORE_RUN_EXTRA_INPUTS_H

#include "core/memory.h"
#include "core/run/request.h"

namespace ldm {

// The six numbers of the rule "image_sizes", in the order of diffusers' time ids: heights come first.
void image_sizes(const ImageSizes& sizes, float out[6]);

// Embed a guidance scale as diffusers' `get_guidance_scale_embedding` does, sines before cosines. width: of the input.
void guidance_embedding(double guidance, std::size_t width, float* out);

}  // namespace ldm

#endif
