#include "core/noise/noise.h"

#include <charconv>

#include "core/codes.h"

namespace ldm {

namespace {

// The number after "cuda:": eight decimal digits at most, and at least one block of threads.
bool read_resident_threads(std::string_view digits, std::size_t& out) {
    if (digits.empty() || digits.size() > 8) return false;
    auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), out);
    return error == std::errc() && end == digits.data() + digits.size() && out >= cuda_threads_per_block;
}

bool read_mode(std::string_view name, NoiseMode& out) {
    constexpr std::string_view with_threads = "cuda:";
    out = NoiseMode();
    if (name == "philox") return true;
    out.kind = NoiseMode::Kind::torch;
    if (name == "torch") return true;
    out.kind = NoiseMode::Kind::cuda;
    if (name == "cuda") return true;
    return name.substr(0, with_threads.size()) == with_threads &&
           read_resident_threads(name.substr(with_threads.size()), out.resident_threads);
}

}  // namespace

Status check_noise(Scope& scope, std::string_view name, bool correlated, std::string_view sampler, NoiseMode& out) {
    if (!read_mode(name, out)) {
        return scope.fail(codes::request_noise, {"noise is ", quoted(name),
                                                 "; expected philox, torch, cuda, cuda:RESIDENT_THREADS, for example "
                                                 "cuda:270336"});
    }
    if (correlated && out.kind != NoiseMode::Kind::philox) {
        return scope.fail(codes::request_noise, {"sampler ", quoted(sampler),
                                                 " reads one noise in several rows, which only noise 'philox' can "
                                                 "give; got ",
                                                 quoted(name)});
    }
    return Status();
}

Status batch_seeds(Scope& scope, std::uint64_t seed, std::size_t count, Array<std::uint64_t>& out) {
    LDM_NEED(scope, out.resize(count));
    for (std::size_t image = 0; image < count; ++image) out[image] = seed + image;
    return Status();
}

Status Noise::start(Scope& scope, NoiseMode mode, View<std::uint64_t> seeds, std::size_t numbers) {
    mode_ = mode;
    numbers_ = numbers;
    LDM_NEED(scope, seeds.empty() || numbers <= static_cast<std::size_t>(-1) / sizeof(float) / seeds.size);
    LDM_NEED(scope, seeds_.append(seeds));
    for (std::uint64_t seed : seeds) {
        if (mode.kind == NoiseMode::Kind::torch) LDM_NEED(scope, torch_.push(TorchGenerator(seed)));
        if (mode.kind == NoiseMode::Kind::cuda) LDM_NEED(scope, cuda_.push(CudaGenerator(seed, mode.resident_threads)));
    }
    return Status();
}

Status Noise::stream(Scope& scope, std::uint32_t stream, float* out) {
    for (std::size_t image = 0; image < seeds_.size(); ++image, out += numbers_) {
        switch (mode_.kind) {
            case NoiseMode::Kind::philox: philox_normal(seeds_[image], stream, out, numbers_); break;
            case NoiseMode::Kind::torch: torch_[image].normal(out, numbers_); break;
            case NoiseMode::Kind::cuda: LDM_TRY(cuda_[image].normal(scope, out, numbers_)); break;
        }
    }
    return Status();
}

Status Noise::row(Scope& scope, std::size_t row, View<float>& out) {
    Row& kept = rows_[row % 2];
    if (kept.row != row) {
        kept.row = no_row;
        LDM_NEED(scope, kept.values.resize(size()));
        LDM_TRY(stream(scope, static_cast<std::uint32_t>(1 + row), kept.values.data()));
        kept.row = row;
    }
    out = kept.values.view();
    return Status();
}

}  // namespace ldm
