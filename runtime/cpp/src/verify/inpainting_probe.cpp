#include "src/verify/inpainting_probe.h"

#include "core/codes.h"

namespace ldm::verify {

namespace {

constexpr std::string_view captured = "captured at step 1";  // the case of the denoiser with the run's first inputs

// A number of 128 bits.
struct Wide {
    std::uint64_t high, low;
};

Wide sum(Wide a, Wide b) {
    std::uint64_t low = a.low + b.low;
    return {a.high + b.high + (low < a.low ? 1 : 0), low};
}

Wide product(Wide a, Wide b) {
    constexpr std::uint64_t half = 0xFFFFFFFF;
    std::uint64_t a0 = a.low & half, a1 = a.low >> 32, b0 = b.low & half, b1 = b.low >> 32;
    std::uint64_t middle = (a0 * b0 >> 32) + (a1 * b0 & half) + a0 * b1;
    std::uint64_t high = a1 * b1 + (a1 * b0 >> 32) + (middle >> 32);
    return {high + a.high * b.low + a.low * b.high, a.low * b.low};
}

// PCG64 (O'Neill 2014, PCG XSL RR 128/64), as numpy's default generator begins it with seed 7.
class Pcg64 {
public:
    std::uint64_t next() {
        state_ = sum(product(state_, multiplier), increment);
        std::uint64_t mixed = state_.high ^ state_.low;
        unsigned turns = static_cast<unsigned>(state_.high >> 58);
        return mixed >> turns | mixed << ((64 - turns) & 63);
    }

private:
    static constexpr Wide multiplier{0x2360ED051FC65DA4, 0x4385DF649FCCF645};
    static constexpr Wide increment{0xC4751896CE8ACEBF, 0x66887F5AC070D959};
    Wide state_{0x9D0AECC4E7B18891, 0x9AE2415A6B292038};
};

}  // namespace

bool probe_image(std::size_t width, std::size_t height, Array<std::uint8_t>& out) {
    if (!out.resize(3 * width * height)) return false;
    Pcg64 generator;
    std::uint64_t bytes = 0;
    for (std::size_t index = 0; index < out.size(); ++index) {
        bytes = index % 8 == 0 ? generator.next() : bytes >> 8;
        out[index] = static_cast<std::uint8_t>(bytes);
    }
    return true;
}

bool probe_mask(std::size_t width, std::size_t height, std::size_t step, Array<std::uint8_t>& out) {
    if (!out.resize(width * height)) return false;
    std::size_t first = width / step / 2 * step;
    for (std::size_t pixel = 0; pixel < out.size(); ++pixel) out[pixel] = pixel % width >= first ? 255 : 0;
    return true;
}

Status require_same_probe(Scope& scope, Reference& reference, const Contract& contract) {
    if (!contract.inpaints()) return Status();
    auto channel = static_cast<std::size_t>(contract.latent.channels);  // of the mask, which follows the latents
    Loaded sample(scope.memory);
    for (const Case& each : reference.cases()) {
        if (each.component != contract.denoiser.component || each.name != captured) continue;
        for (const Stored& input : each.inputs) {
            View<std::int64_t> shape = input.tensor->shape;  // (B, C, h, w)
            bool has_mask = input.name == contract.denoiser.sample && input.tensor->dtype == "F32" && shape.size == 4 &&
                            static_cast<std::size_t>(shape[1]) > channel;
            if (!has_mask) continue;
            LDM_TRY(reference.read(scope, input, sample));
            auto channels = static_cast<std::size_t>(shape[1]), width = static_cast<std::size_t>(shape[3]);
            std::size_t plane = static_cast<std::size_t>(shape[2]) * width;
            for (std::size_t index = 0; index < sample.count(); ++index) {
                if (index / plane % channels != channel) continue;
                if (sample.floats()[index] == (index % width >= width / 2 ? 1.0f : 0.0f)) continue;
                return scope.fail(codes::proof_invalid,
                                  {"the reference was computed with another image to inpaint than "
                                   "this program uses; build the package again"});
            }
        }
    }
    return Status();
}

}  // namespace ldm::verify
