#include "core/noise/torch_cpu.h"

#include <cmath>

namespace ldm {

namespace {

constexpr double two_pi = 6.283185307179586;

double rounded(double value) { return static_cast<double>(static_cast<float>(value)); }

}  // namespace

MersenneTwister::MersenneTwister(std::uint32_t seed) {
    words_[0] = seed;
    for (std::uint32_t index = 1; index < size; ++index) {
        std::uint32_t before = words_[index - 1];
        words_[index] = 1812433253u * (before ^ before >> 30) + index;
    }
}

void MersenneTwister::refill() {
    for (int index = 0; index < size; ++index) {
        std::uint32_t mixed = (words_[index] & 0x80000000u) | (words_[(index + 1) % size] & 0x7FFFFFFFu);
        words_[index] = words_[(index + middle) % size] ^ mixed >> 1 ^ (mixed & 1 ? 0x9908B0DFu : 0);
    }
    at_ = 0;
}

std::uint32_t MersenneTwister::next() {
    if (at_ == size) refill();
    std::uint32_t word = words_[at_++];
    word ^= word >> 11;
    word ^= word << 7 & 0x9D2C5680u;
    word ^= word << 15 & 0xEFC60000u;
    return word ^ word >> 18;
}

void TorchGenerator::normal(float* out, std::size_t count) {
    if (count < block) return draw_small(out, count);
    std::size_t rest = count % block;
    for (std::size_t start = 0; start < count - rest; start += block) draw_block(out + start);
    if (rest == 0) return;
    for (std::size_t index = 0; index < rest; ++index) engine_.next();
    draw_block(out + count - block);  // the last block is drawn again, over some numbers of the one before
}

// Box-Muller of 16 uniform numbers: cosines in the first half, sines in the second. Rounded where torch's are.
void TorchGenerator::draw_block(float* out) {
    static constexpr double two_pi_32 = static_cast<double>(static_cast<float>(two_pi));
    double uniform[block];
    for (double& each : uniform) each = uniform24();
    for (std::size_t index = 0; index < block / 2; ++index) {
        double radius = rounded(std::sqrt(-2.0 * rounded(std::log(1.0 - uniform[index]))));
        double angle = rounded(two_pi_32 * uniform[index + block / 2]);
        out[index] = static_cast<float>(radius * rounded(std::cos(angle)));
        out[index + block / 2] = static_cast<float>(radius * rounded(std::sin(angle)));
    }
}

void TorchGenerator::draw_small(float* out, std::size_t count) {
    for (std::size_t index = 0; index < count; ++index) {
        if (has_spare_) {
            out[index] = static_cast<float>(spare_);
            has_spare_ = false;
            continue;
        }
        double angle = two_pi * uniform53();
        double radius = std::sqrt(-2.0 * std::log1p(-uniform53()));
        out[index] = static_cast<float>(radius * std::cos(angle));
        spare_ = radius * std::sin(angle);
        has_spare_ = true;
    }
}

double TorchGenerator::uniform24() { return (engine_.next() & 0xFFFFFFu) * 0x1p-24; }

double TorchGenerator::uniform53() {
    std::uint64_t high = engine_.next();
    std::uint64_t low = engine_.next();
    return static_cast<double>((high << 32 | low) & 0x1FFFFFFFFFFFFFu) * 0x1p-53;
}

}  // namespace ldm
