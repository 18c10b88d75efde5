// SHA-256 (FIPS 180-4): the identity of files and of plans.
#ifndef LDM_CORE_SHA256_H
#define LDM_CORE_SHA256_H

#include <cstddef>
#include <cstdint>
#include <string_view>

namespace ldm {

// 32 bytes, and as the 64 hexadecimal digits that manifests hold.
struct Digest {
    std::uint8_t bytes[32] = {};

    struct Hex {
        char digits[64];
        std::string_view view() const { return {digits, sizeof digits}; }
    };
    Hex hex() const;
};

// Of the 64 rounds.
extern const std::uint32_t sha256_constants[64];

// Mixes whole blocks of 64 bytes into a state.
using MixBlocks = void (*)(std::uint32_t (&state)[8], const std::uint8_t* blocks, std::size_t count);
void mix_blocks(std::uint32_t (&state)[8], const std::uint8_t* blocks, std::size_t count);

class Sha256 {
public:
    explicit Sha256(MixBlocks mix = mix_blocks);  // a host may have a faster one for its processor
    void update(std::string_view bytes);
    Digest finish();  // once, after all updates

private:
    MixBlocks mix_;
    std::uint32_t state_[8];
    std::uint64_t length_ = 0;  // bytes so far
    std::uint8_t rest_[64];     // of a block that is not full
};

}  // namespace ldm

#endif
