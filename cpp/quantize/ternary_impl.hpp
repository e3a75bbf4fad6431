// The ternary loops in plain C++: compiled once per instruction set, in an unnamed namespace each, for
// compilers vectorise them. Digits pass through a small buffer in the nearest cache.
#pragma once

#include <bit>
#include <cstring>

#include "quantize/ternary_formats.hpp"
#include "quantize/ternary_kernels.hpp"

namespace nncodec::ternary {
namespace {

constexpr std::size_t kBlock = 512;  // bytes packed at a time

// Elements of plane k (0 .. 4) in a planar layout of n elements in `bytes` bytes.
constexpr std::size_t plane_size(std::size_t n, std::size_t bytes, std::size_t k) noexcept {
    return n <= k * bytes ? 0 : n - k * bytes < bytes ? n - k * bytes : bytes;
}

template <typename Format>
std::uint32_t absmax_loop(const void* from, const float* residual, std::size_t n) noexcept {
    const auto* const values = static_cast<const typename Format::Storage*>(from);
    std::uint32_t most = 0;
    const auto take = [&](float x) {
        const std::uint32_t magnitude = std::bit_cast<std::uint32_t>(x) & 0x7FFFFFFFU;
        most = magnitude > most ? magnitude : most;
    };
    if (residual != nullptr) {
        for (std::size_t i = 0; i < n; ++i) take(residual[i] + Format::load(values[i]));
    } else {
        for (std::size_t i = 0; i < n; ++i) take(Format::load(values[i]));
    }
    return most;
}

// Digits as wide as the floats and masks instead of conditions: so compilers vectorise this.
template <typename Format>
void digits_of(const typename Format::Storage* values, float* residual, std::size_t n, float scale,
               float half, std::int32_t* digits) noexcept {
    if (residual == nullptr) {
        for (std::size_t i = 0; i < n; ++i) {
            const float x = Format::load(values[i]);
            digits[i] = 1 + static_cast<std::int32_t>(x > half) - static_cast<std::int32_t>(x < -half);
        }
        return;
    }
    const auto scale_bits = std::bit_cast<std::uint32_t>(scale);
    for (std::size_t i = 0; i < n; ++i) {
        const float x = residual[i] + Format::load(values[i]);
        const auto above = static_cast<std::int32_t>(x > half);
        const auto below = static_cast<std::int32_t>(x < -half);
        const std::uint32_t other = 0U - static_cast<std::uint32_t>(above | below);
        const std::uint32_t sent = (scale_bits & other) | (static_cast<std::uint32_t>(below) << 31);
        residual[i] = x - std::bit_cast<float>(sent);  // x - 0 is x
        digits[i] = 1 + above - below;
    }
}

template <typename Format>
void quantise_planar_from(std::size_t first, const void* from, float* residual, std::size_t n, float scale,
                          float half, std::uint8_t* packed) noexcept {
    const auto* const values = static_cast<const typename Format::Storage*>(from);
    const std::size_t bytes = packed_size(n);
    std::int32_t digits[kBlock];
    std::int32_t sums[kBlock];
    for (std::size_t at = first; at < bytes; at += kBlock) {
        const std::size_t count = bytes - at < kBlock ? bytes - at : kBlock;
        for (std::size_t i = 0; i < count; ++i) sums[i] = 0;
        for (std::size_t k = 0; k < kDigitsPerByte; ++k) {
            const std::size_t size = plane_size(n, bytes, k);
            const std::size_t here = size <= at ? 0 : size - at < count ? size - at : count;
            const std::size_t offset = k * bytes + at;
            digits_of<Format>(values + offset, residual == nullptr ? nullptr : residual + offset, here, scale,
                              half, digits);
            for (std::size_t i = here; i < count; ++i) digits[i] = 1;
            for (std::size_t i = 0; i < count; ++i) sums[i] = 3 * sums[i] + digits[i];
        }
        for (std::size_t i = 0; i < count; ++i) packed[at + i] = static_cast<std::uint8_t>(sums[i]);
    }
}

template <typename Format>
void quantise_planar(const void* values, float* residual, std::size_t n, float scale, float half,
                     std::uint8_t* packed) noexcept {
    quantise_planar_from<Format>(0, values, residual, n, scale, half, packed);
}

template <typename Format>
void quantise_consecutive(const void* from, float* residual, std::size_t n, float scale, float half,
                          std::uint8_t* packed) noexcept {
    const auto* const values = static_cast<const typename Format::Storage*>(from);
    constexpr std::size_t kElements = kBlock * kDigitsPerByte;
    std::int32_t digits[kElements];
    for (std::size_t at = 0; at < n; at += kElements) {
        const std::size_t count = n - at < kElements ? n - at : kElements;
        digits_of<Format>(values + at, residual == nullptr ? nullptr : residual + at, count, scale, half,
                          digits);
        const std::size_t bytes = packed_size(count);
        for (std::size_t i = count; i < bytes * kDigitsPerByte; ++i) digits[i] = 1;
        for (std::size_t i = 0; i < bytes; ++i) {
            const std::int32_t* const d = digits + i * kDigitsPerByte;
            packed[at / kDigitsPerByte + i] =
                static_cast<std::uint8_t>(81 * d[0] + 27 * d[1] + 9 * d[2] + 3 * d[3] + d[4]);
        }
    }
}

// What digit d adds: scale * (d - 1), but -0 for 1, which leaves every number as it is. Integer work, no
// branch.
inline float step_of(std::uint8_t digit, std::uint32_t scale_bits) noexcept {
    const std::uint32_t zero = 0U - (digit & 1U);
    const std::uint32_t sign = (2U - digit) >> 1 << 31;
    return std::bit_cast<float>(((scale_bits ^ sign) & ~zero) | (0x80000000U & zero));
}

inline float unless(bool keep, float old, float now) noexcept {
    static_cast<void>(keep);
    static_cast<void>(old);
    return now;  // adding -0 has kept it
}
inline std::uint16_t unless(bool keep, std::uint16_t old, std::uint16_t now) noexcept {
    return keep ? old : now;  // a NaN might not survive the way to float and back
}

template <typename Format>
void apply(const std::uint8_t* digits, std::size_t n, float scale, bool accumulate,
           typename Format::Storage* out) noexcept {
    const auto bits = std::bit_cast<std::uint32_t>(scale);
    if (accumulate) {
        for (std::size_t i = 0; i < n; ++i) {
            const float sum = Format::load(out[i]) + step_of(digits[i], bits);
            out[i] = unless(digits[i] == 1, out[i], Format::store(sum));
        }
        return;
    }
    for (std::size_t i = 0; i < n; ++i) out[i] = Format::store(step_of(digits[i], bits) + 0.0F);
}

// Digits without division: with q = ceil(256 b / 243), digit i from the most significant on is the integer
// part of 3 * frac(q * 3^i / 256). Holds for all 243 bytes; a test compares each with division.
constexpr unsigned as_fraction(std::uint8_t packed) noexcept {
    return (packed * 256U + 242U) / 243U;
}

template <typename Format>
void expand_planar_from(std::size_t first, const std::uint8_t* packed, std::size_t n, float scale,
                        bool accumulate, void* to) noexcept {
    auto* const out = static_cast<typename Format::Storage*>(to);
    const std::size_t bytes = packed_size(n);
    std::uint8_t fractions[kBlock];
    std::uint8_t digits[kBlock];
    for (std::size_t at = first; at < bytes; at += kBlock) {
        const std::size_t count = bytes - at < kBlock ? bytes - at : kBlock;
        for (std::size_t i = 0; i < count; ++i) {
            fractions[i] = static_cast<std::uint8_t>(as_fraction(packed[at + i]));
        }
        for (std::size_t k = 0; k < kDigitsPerByte; ++k) {
            for (std::size_t i = 0; i < count; ++i) {
                const auto tripled = static_cast<std::uint16_t>(3 * fractions[i]);
                digits[i] = static_cast<std::uint8_t>(tripled >> 8);
                fractions[i] = static_cast<std::uint8_t>(tripled);
            }
            const std::size_t size = plane_size(n, bytes, k);
            const std::size_t here = size <= at ? 0 : size - at < count ? size - at : count;
            apply<Format>(digits, here, scale, accumulate, out + k * bytes + at);
        }
    }
}

template <typename Format>
void expand_planar(const std::uint8_t* packed, std::size_t n, float scale, bool accumulate,
                   void* to) noexcept {
    expand_planar_from<Format>(0, packed, n, scale, accumulate, to);
}

// Five digits of a byte in the low five bytes of a word.
struct DigitTable {
    std::uint64_t of[kLargestByte + 1];
};
constexpr DigitTable make_digit_table() noexcept {
    DigitTable table{};
    for (unsigned packed = 0; packed <= kLargestByte; ++packed) {
        unsigned fraction = as_fraction(static_cast<std::uint8_t>(packed));
        for (unsigned k = 0; k < kDigitsPerByte; ++k) {
            table.of[packed] |= std::uint64_t{3 * fraction >> 8} << (8 * k);
            fraction = 3 * fraction & 255U;
        }
    }
    return table;
}
constexpr DigitTable kDigits = make_digit_table();

template <typename Format>
void expand_consecutive(const std::uint8_t* packed, std::size_t n, float scale, bool accumulate,
                        void* to) noexcept {
    auto* const out = static_cast<typename Format::Storage*>(to);
    constexpr std::size_t kElements = kBlock * kDigitsPerByte;
    std::uint8_t digits[kElements + 3];  // words are written whole
    for (std::size_t at = 0; at < n; at += kElements) {
        const std::size_t count = n - at < kElements ? n - at : kElements;
        for (std::size_t i = 0; i < packed_size(count); ++i) {
            std::memcpy(digits + i * kDigitsPerByte, &kDigits.of[packed[at / kDigitsPerByte + i]], 8);
        }
        apply<Format>(digits, count, scale, accumulate, out + at);
    }
}

constexpr Kernels make_kernels() noexcept {
    return {{absmax_loop<Float32>, absmax_loop<Float16>, absmax_loop<BFloat16>},
            {{{quantise_planar<Float32>, quantise_consecutive<Float32>},
              {quantise_planar<Float16>, quantise_consecutive<Float16>},
              {quantise_planar<BFloat16>, quantise_consecutive<BFloat16>}}},
            {{{expand_planar<Float32>, expand_consecutive<Float32>},
              {expand_planar<Float16>, expand_consecutive<Float16>},
              {expand_planar<BFloat16>, expand_consecutive<BFloat16>}}}};
}

}  // namespace
}  // namespace nncodec::ternary
