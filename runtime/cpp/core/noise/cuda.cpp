#include "core/noise/cuda.h"

#include <cmath>

#include "core/codes.h"
#include "core/noise/philox.h"

namespace ldm {

namespace {

constexpr double pi = 3.141592653589793;
constexpr std::size_t numbers_per_thread = 4;  // in one draw

// Two normal numbers of two random words: Box-Muller, sine first.
void box_muller(std::uint32_t first, std::uint32_t second, double out[2]) {
    double uniform = first * 0x1p-32 + 0x1p-33;
    double angle = (second * 0x1p-32 + 0x1p-33) * 2.0 * pi;
    double radius = std::sqrt(-2.0 * std::log(uniform));
    out[0] = radius * std::sin(angle);
    out[1] = radius * std::cos(angle);
}

}  // namespace

Status CudaGenerator::normal(Scope& scope, float* out, std::size_t count) {
    std::size_t blocks = count / cuda_threads_per_block + (count % cuda_threads_per_block != 0);
    if (resident_ > 0) {
        std::size_t most = resident_ / cuda_threads_per_block;
        blocks = blocks < most ? blocks : most;
    } else if (count > cuda_max_portable_numbers) {
        return scope.fail(
            codes::request_noise,
            {"noise 'cuda' of ", count,
             " numbers for one image depends on the GPU; give the number of its "
             "resident threads (multi_processor_count * max_threads_per_multi_processor of torch's device "
             "properties), as in noise 'cuda:270336'; up to ",
             cuda_max_portable_numbers, " numbers are the same on every GPU"});
    }
    std::size_t threads = blocks * cuda_threads_per_block;
    // A round has four numbers of each thread: all first ones, then all second ones, …
    for (std::size_t start = 0; start < count; start += threads * numbers_per_thread, ++offset_) {
        for (std::size_t thread = 0; thread < threads && start + thread < count; ++thread) {
            PhiloxWords words = philox4x32({{offset_, 0, static_cast<std::uint32_t>(thread), 0}}, seed_);
            double values[numbers_per_thread];
            box_muller(words.word[0], words.word[1], values);
            box_muller(words.word[2], words.word[3], values + 2);
            for (std::size_t index = 0; index < numbers_per_thread; ++index) {
                std::size_t element = start + index * threads + thread;
                if (element < count) out[element] = static_cast<float>(values[index]);
            }
        }
    }
    return Status();
}

}  // namespace ldm
