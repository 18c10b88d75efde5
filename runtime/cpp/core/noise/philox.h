// The `philox` noise: the same seed gives the same bits on every machine and in every language.
//
// Sources: Philox4x32-10, Salmon et al., SC'11; AS 241, Wichura, Applied Statistics 37 (1988). The definition stands in
// the Python runtime's noise/philox.py, whose order of operations this follows to the bit: IEEE float64, no fused
// multiply-add, nothing of libm that rounds.
//
// Streams: 0 = initial noise, 1 + k = noise of plan row k, 0x80000000 and above are reserved (VAE sample, …). Image b
// of a batch uses seed + b mod 2^64, so a batch equals its singles.
#ifndef LDM_CORE_NOISE_PHILOX_H
#define LDM_CORE_NOISE_PHILOX_H

#include <cstddef>
#include <cstdint>

namespace ldm {

inline constexpr std::uint32_t initial_stream = 0;
inline constexpr std::uint32_t reserved_streams = 0x80000000;  // the first stream that no plan row may use

struct PhiloxWords {
    std::uint32_t word[4];
};

// Philox4x32-10 of a counter. key: its low word is the first of the two.
PhiloxWords philox4x32(PhiloxWords counter, std::uint64_t key);

// The quantile of the standard normal at 0 < u < 1 (AS 241, PPND16).
double inverse_normal(double u);

// Standard normal noise of one image: `count` values, at most 2^34, in C order of (C, h, w).
void philox_normal(std::uint64_t seed, std::uint32_t stream, float* out, std::size_t count);

}  // namespace ldm

#endif
