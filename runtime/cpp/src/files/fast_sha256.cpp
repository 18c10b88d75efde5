#include "src/files/fast_sha256.h"

#if defined(__x86_64__) && defined(__GNUC__)

#include <cpuid.h>
#include <immintrin.h>

namespace ldm::files {

namespace {

#define LDM_SHA_TARGET __attribute__((target("sha,sse4.1,ssse3")))

// Four rounds an iteration. The state is held as the instructions want it, the four words of a vector from its top:
// (a, b, e, f) and (c, d, g, h).
LDM_SHA_TARGET void mix_by_instructions(std::uint32_t (&state)[8], const std::uint8_t* blocks, std::size_t count) {
    const __m128i big_endian = _mm_set_epi8(12, 13, 14, 15, 8, 9, 10, 11, 4, 5, 6, 7, 0, 1, 2, 3);
    auto* places = reinterpret_cast<__m128i*>(state);
    __m128i badc = _mm_shuffle_epi32(_mm_loadu_si128(places), 0xB1);
    __m128i hgfe = _mm_shuffle_epi32(_mm_loadu_si128(places + 1), 0x1B);
    __m128i abef = _mm_alignr_epi8(badc, hgfe, 8), cdgh = _mm_blend_epi16(hgfe, badc, 0xF0);
    for (; count > 0; --count, blocks += 64) {
        __m128i before_abef = abef, before_cdgh = cdgh, words[4];
        for (int part = 0; part < 4; ++part) {
            const auto* place = reinterpret_cast<const __m128i*>(blocks + 16 * part);
            words[part] = _mm_shuffle_epi8(_mm_loadu_si128(place), big_endian);
        }
        for (int part = 0; part < 16; ++part) {
            __m128i& oldest = words[part % 4];
            const __m128i &second = words[(part + 1) % 4], &third = words[(part + 2) % 4],
                          &newest = words[(part + 3) % 4];
            const auto* constants = reinterpret_cast<const __m128i*>(sha256_constants + 4 * part);
            __m128i sum = _mm_add_epi32(oldest, _mm_load_si128(constants));
            cdgh = _mm_sha256rnds2_epu32(cdgh, abef, sum);
            abef = _mm_sha256rnds2_epu32(abef, cdgh, _mm_shuffle_epi32(sum, 0x0E));
            __m128i mixed = _mm_add_epi32(_mm_sha256msg1_epu32(oldest, second), _mm_alignr_epi8(newest, third, 4));
            oldest = _mm_sha256msg2_epu32(mixed, newest);
        }
        abef = _mm_add_epi32(abef, before_abef);
        cdgh = _mm_add_epi32(cdgh, before_cdgh);
    }
    __m128i feba = _mm_shuffle_epi32(abef, 0x1B), dchg = _mm_shuffle_epi32(cdgh, 0xB1);
    _mm_storeu_si128(places, _mm_blend_epi16(feba, dchg, 0xF0));
    _mm_storeu_si128(places + 1, _mm_alignr_epi8(dchg, feba, 8));
}

bool has_instructions() {
    unsigned a = 0, b = 0, c = 0, d = 0;
    constexpr unsigned ssse3 = 1u << 9, sse41 = 1u << 19, sha = 1u << 29;
    if (__get_cpuid(1, &a, &b, &c, &d) == 0 || (c & ssse3) == 0 || (c & sse41) == 0) return false;
    return __get_cpuid_count(7, 0, &a, &b, &c, &d) != 0 && (b & sha) != 0;
}

}  // namespace

MixBlocks fastest_mix() { return has_instructions() ? mix_by_instructions : mix_blocks; }

}  // namespace ldm::files

#else

namespace ldm::files {

MixBlocks fastest_mix() { return mix_blocks; }

}  // namespace ldm::files

#endif
