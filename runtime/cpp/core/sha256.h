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

class Sha256 {
public:
    Sha256();
    void update(std::string_view bytes);
    Digest finish();  // once, after all updates

private:
    void take(const std::uint8_t* blocks, std::size_t count);

    std::uint32_t state_[8];
    std::uint64_t length_ = 0;  // bytes so far
    std::uint8_t rest_[64];     // of a block that is not full
};

}  // namespace ldm

#endif
