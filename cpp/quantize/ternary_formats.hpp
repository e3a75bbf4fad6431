// How the ternary loops read and write their element types. In an unnamed namespace, since each instruction
// set compiles its own. No branches, so that loops over these vectorise.
#pragma once

#include <bit>
#include <cstdint>

namespace nncodec::ternary {
namespace {

// a if `condition`, else b: compilers do not move floating-point operations out of real conditions.
inline std::uint32_t select(bool condition, std::uint32_t a, std::uint32_t b) noexcept {
    return b ^ ((a ^ b) & (0U - static_cast<std::uint32_t>(condition)));
}

struct Float32 {
    using Storage = float;
    static float load(float value) noexcept { return value; }
    static float store(float value) noexcept { return value; }
};

struct Float16 {
    using Storage = std::uint16_t;
    static constexpr std::uint32_t kRebias = 112U << 23;       // 127 - 15
    static constexpr std::uint32_t kLeastNormal = 113U << 23;  // 2^-14

    static float load(std::uint16_t value) noexcept {
        const std::uint32_t sign = (value & 0x8000U) << 16;
        const std::uint32_t magnitude = (value & 0x7FFFU) << 13;
        // A subnormal is m * 2^-24: the mantissa of a number from 2^-14 on, less those 2^-14; exact.
        const float shifted = std::bit_cast<float>(magnitude | kLeastNormal) - 0x1p-14F;
        const std::uint32_t subnormal = std::bit_cast<std::uint32_t>(shifted);
        const std::uint32_t normal = magnitude + (magnitude >= (31U << 23) ? 2 * kRebias : kRebias);
        return std::bit_cast<float>(sign | select(magnitude < (1U << 23), subnormal, normal));
    }

    // To nearest even; too large becomes infinite.
    static std::uint16_t store(float value) noexcept {
        const auto bits = std::bit_cast<std::uint32_t>(value);
        const std::uint32_t magnitude = bits & 0x7FFFFFFFU;
        // One half has its last place at 2^-24, where a subnormal has it: the addition rounds.
        const float placed = std::bit_cast<float>(magnitude) + 0.5F;
        const std::uint32_t subnormal =
            std::bit_cast<std::uint32_t>(placed) - std::bit_cast<std::uint32_t>(0.5F);
        const std::uint32_t rounded = (magnitude - kRebias + 0xFFFU + ((magnitude >> 13) & 1U)) >> 13;
        const std::uint32_t normal = rounded < 0x7C00U ? rounded : 0x7C00U;
        const std::uint32_t nan = 0x7E00U | ((magnitude >> 13) & 0x1FFU);
        const std::uint32_t number = select(magnitude < kLeastNormal, subnormal, normal);
        return static_cast<std::uint16_t>(((bits >> 16) & 0x8000U) |
                                          select(magnitude > 0x7F800000U, nan, number));
    }
};

struct BFloat16 {
    using Storage = std::uint16_t;

    static float load(std::uint16_t value) noexcept {
        return std::bit_cast<float>(std::uint32_t{value} << 16);
    }

    static std::uint16_t store(float value) noexcept {
        const auto bits = std::bit_cast<std::uint32_t>(value);
        const std::uint32_t rounded = (bits + 0x7FFFU + ((bits >> 16) & 1U)) >> 16;
        const bool nan = (bits & 0x7FFFFFFFU) > 0x7F800000U;
        return static_cast<std::uint16_t>(nan ? (bits >> 16) | 0x40U : rounded);
    }
};

}  // namespace
}  // namespace nncodec::ternary
