// The arithmetic of the sampling loop, as pure functions over float32 arrays of `count` numbers: those of a whole batch
// (B, C, h, w), or where `batch` is told B images of `each` numbers.
//
// The state is float32, each coefficient is rounded once, the order of summation is fixed.
#ifndef LDM_CORE_SAMPLING_ARITHMETIC_H
#define LDM_CORE_SAMPLING_ARITHMETIC_H

#include <cstddef>

#include "core/sampling/solvers/options.h"
#include "core/sampling/solvers/rows.h"

namespace ldm::sampling {

bool all_finite(const float* values, std::size_t count);

// factor * from; `out` may be `from`.
void scale(const float* from, double factor, std::size_t count, float* out);

// Noise of a row's level added to an image's latents, in that row's scaling.
void noised(const PlanRow& row, const float* image, const float* noise, std::size_t count, float* out);

// The sum of coefficient * tensor over `terms` tensors, left to right, one product and one addition at a time in
// float32; zero coefficients are skipped. `out` is none of the tensors.
void weighted_sum(const float* coefficients, const float* const* tensors, std::size_t terms, std::size_t count,
                  float* out);

// The clean latents x0 that the model's output for x predicts.
void data_prediction(const PlanRow& row, const float* x, const float* output, std::size_t count, float* out);

// Clip the predicted x0 by a hook, in place. scratch: `each` numbers, for a threshold.
void clip(const Hook& hook, std::size_t batch, std::size_t each, float* data, float* scratch);

// Classifier-free guidance (arXiv:2207.12598): uncond + scale * (cond - uncond); `out` may be either of them.
//
// rescale: how far each image's deviation is brought back to that of cond (arXiv:2305.08891, section 3.4), 0 to 1. Its
// deviations are summed in float64 and so differ from numpy's in their last bit.
void guide(const float* uncond, const float* cond, double scale, double rescale, std::size_t batch, std::size_t each,
           float* out);

// Go a share of the arc between two noises, which keeps their deviation.
void slerp(const float* start, const float* stop, double share, std::size_t count, float* out);

// Inpainting: (1 - mask) * kept + mask * x, in place of x. mask: `plane` numbers, the same for all images and channels.
void lay_over(const float* kept, const float* mask, std::size_t plane, std::size_t count, float* x);

}  // namespace ldm::sampling

#endif
