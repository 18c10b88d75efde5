#include "core/sha256.h"

#include <cstring>

namespace ldm {

// The first 32 bits of the fractional parts of the cube roots of the first 64 primes.
alignas(16) const std::uint32_t sha256_constants[64] = {
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
    0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
    0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
    0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
    0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
    0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
    0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
    0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2,
};

namespace {

constexpr std::size_t block_bytes = 64;

std::uint32_t turned(std::uint32_t word, int bits) { return word >> bits | word << (32 - bits); }

std::uint32_t read_word(const std::uint8_t* bytes) {
    return std::uint32_t{bytes[0]} << 24 | std::uint32_t{bytes[1]} << 16 | std::uint32_t{bytes[2]} << 8 | bytes[3];
}

// Spread the 16 words of a block to one for each round.
void spread(const std::uint8_t* block, std::uint32_t (&words)[64]) {
    for (std::size_t index = 0; index < 16; ++index) words[index] = read_word(block + 4 * index);
    for (std::size_t index = 16; index < 64; ++index) {
        std::uint32_t early = words[index - 15], late = words[index - 2];
        words[index] = words[index - 16] + words[index - 7] + (turned(early, 7) ^ turned(early, 18) ^ early >> 3) +
                       (turned(late, 17) ^ turned(late, 19) ^ late >> 10);
    }
}

void mix(std::uint32_t (&state)[8], const std::uint8_t* block) {
    std::uint32_t words[64];
    spread(block, words);
    std::uint32_t a = state[0], b = state[1], c = state[2], d = state[3];
    std::uint32_t e = state[4], f = state[5], g = state[6], h = state[7];
    for (std::size_t round = 0; round < 64; ++round) {
        std::uint32_t chosen = (e & f) ^ (~e & g), most = (a & b) ^ (a & c) ^ (b & c);
        std::uint32_t first = h + (turned(e, 6) ^ turned(e, 11) ^ turned(e, 25)) + chosen + sha256_constants[round] +
                              words[round];
        std::uint32_t second = (turned(a, 2) ^ turned(a, 13) ^ turned(a, 22)) + most;
        h = g, g = f, f = e, e = d + first, d = c, c = b, b = a, a = first + second;
    }
    state[0] += a, state[1] += b, state[2] += c, state[3] += d;
    state[4] += e, state[5] += f, state[6] += g, state[7] += h;
}

}  // namespace

Digest::Hex Digest::hex() const {
    Hex out;
    for (std::size_t index = 0; index < sizeof bytes; ++index) {
        out.digits[2 * index] = "0123456789abcdef"[bytes[index] >> 4];
        out.digits[2 * index + 1] = "0123456789abcdef"[bytes[index] & 15];
    }
    return out;
}

// The first 32 bits of the fractional parts of the square roots of the first eight primes.
Sha256::Sha256(MixBlocks mix)
    : mix_(mix),
      state_{0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, 0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19} {}

void mix_blocks(std::uint32_t (&state)[8], const std::uint8_t* blocks, std::size_t count) {
    for (std::size_t index = 0; index < count; ++index) mix(state, blocks + index * block_bytes);
}

void Sha256::update(std::string_view bytes) {
    if (bytes.empty()) return;
    const auto* data = reinterpret_cast<const std::uint8_t*>(bytes.data());
    std::size_t size = bytes.size(), held = static_cast<std::size_t>(length_ % block_bytes);
    length_ += size;
    if (held > 0) {
        std::size_t taken = size < block_bytes - held ? size : block_bytes - held;
        std::memcpy(rest_ + held, data, taken);
        if (held + taken < block_bytes) return;
        mix_(state_, rest_, 1);
        data += taken;
        size -= taken;
    }
    mix_(state_, data, size / block_bytes);
    std::size_t left = size % block_bytes;
    if (left > 0) std::memcpy(rest_, data + (size - left), left);
}

Digest Sha256::finish() {
    std::uint64_t bits = length_ * 8;
    std::size_t held = static_cast<std::size_t>(length_ % block_bytes);
    std::uint8_t end[2 * block_bytes] = {0x80};
    std::size_t padding = (held < 56 ? 56 : 120) - held;  // up to the eight bytes of the length
    for (std::size_t index = 0; index < 8; ++index)
        end[padding + index] = static_cast<std::uint8_t>(bits >> (56 - 8 * index));
    update({reinterpret_cast<const char*>(end), padding + 8});
    Digest digest;
    for (std::size_t index = 0; index < 32; ++index) {
        digest.bytes[index] = static_cast<std::uint8_t>(state_[index / 4] >> (24 - 8 * (index % 4)));
    }
    return digest;
}

}  // namespace ldm
