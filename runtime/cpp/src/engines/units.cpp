// Intel's manual (volume 2, CPUID; volume 1, 13.3 on XCR0), Linux' list of ARM's capabilities, Apple's hw.optional.arm.
#include "src/engines/units.h"

#include <cstdint>

#if defined(__x86_64__) || defined(_M_X64)
#define LDM_IS_X86
#if defined(_MSC_VER) && !defined(__clang__)
#include <intrin.h>
#else
#include <cpuid.h>
#endif
#elif defined(__aarch64__) && defined(__linux__)
#include <sys/auxv.h>
#elif defined(__aarch64__) && defined(__APPLE__)
#include <sys/sysctl.h>
#endif

namespace ldm::engines {

namespace {

#if defined(LDM_IS_X86)

struct Registers {
    std::uint32_t a = 0, b = 0, c = 0, d = 0;
};

Registers cpuid(std::uint32_t leaf, std::uint32_t subleaf) {
    Registers its;
#if defined(_MSC_VER) && !defined(__clang__)
    int found[4], most[4];
    __cpuid(most, 0);
    if (static_cast<std::uint32_t>(most[0]) < leaf) return its;
    __cpuidex(found, static_cast<int>(leaf), static_cast<int>(subleaf));
    its = {static_cast<std::uint32_t>(found[0]), static_cast<std::uint32_t>(found[1]),
           static_cast<std::uint32_t>(found[2]), static_cast<std::uint32_t>(found[3])};
#else
    __get_cpuid_count(leaf, subleaf, &its.a, &its.b, &its.c, &its.d);
#endif
    return its;
}

// The registers that the system keeps for programs.
std::uint64_t kept_registers() {
    constexpr std::uint32_t has_xgetbv = 1u << 27;
    if ((cpuid(1, 0).c & has_xgetbv) == 0) return 0;
#if defined(_MSC_VER) && !defined(__clang__)
    return _xgetbv(0);
#else
    std::uint32_t low = 0, high = 0;
    __asm__("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    return std::uint64_t{high} << 32 | low;
#endif
}

struct Unit {
    std::string_view name;
    std::uint32_t subleaf;  // of leaf 7
    std::uint32_t Registers::*place;
    unsigned bit;
    std::uint64_t registers;  // that it needs
};

constexpr std::uint64_t ymm = 0x6, zmm = 0xE6, tiles = 0x60000;
constexpr Unit units[] = {
    {"avx2", 0, &Registers::b, 5, ymm},
    {"avx512f", 0, &Registers::b, 16, zmm},
    {"avx512_vnni", 0, &Registers::c, 11, zmm},
    {"avx512_fp16", 0, &Registers::d, 23, zmm},
    {"amx_bf16", 0, &Registers::d, 22, tiles},
    {"amx_int8", 0, &Registers::d, 25, tiles},
    {"amx_fp16", 1, &Registers::a, 21, tiles},
    {"avx_vnni", 1, &Registers::a, 4, ymm},
    {"avx512_bf16", 1, &Registers::a, 5, zmm},
};

bool is_here(std::string_view name) {
    for (const Unit& unit : units) {
        if (unit.name != name) continue;
        if ((kept_registers() & unit.registers) != unit.registers || cpuid(7, 0).a < unit.subleaf) return false;
        Registers found = cpuid(7, unit.subleaf);
        return (found.*unit.place >> unit.bit & 1) != 0;
    }
    return false;
}

#elif defined(__aarch64__) && defined(__linux__)

bool is_here(std::string_view name) {
    constexpr unsigned long dot_products = 1ul << 20, halves = 1ul << 10;  // HWCAP_ASIMDDP, HWCAP_ASIMDHP
    constexpr unsigned long matrices = 1ul << 13, bfloat16 = 1ul << 14;  // HWCAP2_I8MM, HWCAP2_BF16
    if (name == "neon_dotprod") return (getauxval(AT_HWCAP) & dot_products) != 0;
    if (name == "neon_fp16") return (getauxval(AT_HWCAP) & halves) != 0;
    if (name == "neon_i8mm") return (getauxval(AT_HWCAP2) & matrices) != 0;
    return name == "neon_bf16" && (getauxval(AT_HWCAP2) & bfloat16) != 0;
}

#elif defined(__aarch64__) && defined(__APPLE__)

bool is_on(const char* name) {
    int value = 0;
    size_t size = sizeof value;
    return sysctlbyname(name, &value, &size, nullptr, 0) == 0 && value == 1;
}

bool is_here(std::string_view name) {
    if (name == "neon_dotprod") return is_on("hw.optional.arm.FEAT_DotProd");
    if (name == "neon_fp16") return is_on("hw.optional.arm.FEAT_FP16");
    if (name == "neon_i8mm") return is_on("hw.optional.arm.FEAT_I8MM");
    return name == "neon_bf16" && is_on("hw.optional.arm.FEAT_BF16");
}

#else

bool is_here(std::string_view) { return false; }

#endif

}  // namespace

bool has_unit(std::string_view name) { return is_here(name); }

}  // namespace ldm::engines
