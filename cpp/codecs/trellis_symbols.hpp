// Levels of a trellis as rANS symbols: bytes of the level's parity, and raw bits where a level is large.
// Bytes: docs/format.md#symbols-and-payload
#pragma once

#include <bit>
#include <cstdint>
#include <cstdlib>

namespace nncodec::trellis_symbols {

inline constexpr int kZero = 128;   // symbol of level 0
inline constexpr int kDirect = 63;  // levels up to this size have a symbol of their own
inline constexpr int kMaxLevel = 16383;
inline constexpr unsigned kFirstExponent = 5;

struct Symbol {
    std::uint8_t symbol = kZero;
    std::uint8_t raw_bits = 0;
    std::uint32_t raw = 0;
};

// |level| at most kMaxLevel.
constexpr Symbol symbol_of(int level) noexcept {
    const int size = level < 0 ? -level : level;
    if (size <= kDirect) return {static_cast<std::uint8_t>(kZero + level), 0, 0};
    const auto half = static_cast<std::uint32_t>(size) >> 1;
    const auto exponent = static_cast<unsigned>(std::bit_width(half)) - 1;
    const std::uint32_t top = half >> (exponent - 2) & 3;
    const auto place = static_cast<int>(64 + 2 * (4 * (exponent - kFirstExponent) + top)) + (size & 1);
    return {static_cast<std::uint8_t>(level < 0 ? kZero - place : kZero + place),
            static_cast<std::uint8_t>(exponent - 2), half & ((1U << (exponent - 2)) - 1)};
}

constexpr bool is_large(unsigned symbol) noexcept {
    return symbol < kZero - kDirect || symbol > kZero + kDirect;
}

// Levels beyond 255, whose points do not fit 16 bits in 1/64 step.
constexpr bool is_huge(unsigned symbol) noexcept {
    return symbol < kZero - 79 || symbol > kZero + 79;
}

constexpr unsigned raw_bits_of(unsigned symbol) noexcept {
    const auto place = static_cast<unsigned>(std::abs(static_cast<int>(symbol) - kZero));
    return place <= kDirect ? 0 : (place - 64) / 8 + kFirstExponent - 2;
}

constexpr int level_of(unsigned symbol, std::uint32_t raw) noexcept {
    const int signed_place = static_cast<int>(symbol) - kZero;
    const auto place = static_cast<unsigned>(std::abs(signed_place));
    if (place <= kDirect) return signed_place;
    const unsigned index = (place - 64) >> 1;
    const unsigned exponent = index / 4 + kFirstExponent;
    const std::uint32_t half = (4 + index % 4) << (exponent - 2) | raw;
    const auto size = static_cast<int>(2 * half + (place & 1));
    return signed_place < 0 ? -size : size;
}

}  // namespace nncodec::trellis_symbols
