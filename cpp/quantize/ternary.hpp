// 3LC's three-value quantiser with error feedback, and base-3^5 packing. Bytes: docs/format.md#ternary-digits
//
// What surprises: `absmax` and `quantise` both form the sum residual + values, and neither stores it between
// the two: that costs no more memory traffic than storing it once, and a gradient that is refused after the
// first pass leaves the residual as it was. Digits are values in {-1, 0, +1} plus one. The padding of the
// last bytes is digit 1, so that it never breaks a run of zeros.
//
// Every result is exact or one IEEE-754 binary32 operation, so all instruction sets give the same bits.
// Because M / 2 < |x| <= M wherever a digit is not 1, the subtraction x - M * q is exact (Sterbenz), and what
// was sent and what is kept add up to the sum without any rounding.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "base/bytes.hpp"
#include "base/dtype.hpp"

namespace nncodec::ternary {

inline constexpr std::size_t kDigitsPerByte = 5;
inline constexpr std::uint8_t kZeroByte = 121;  // five zeros
inline constexpr std::uint8_t kLargestByte = 242;
// Scales below this are taken for 0: halving them must not leave the normal numbers.
inline constexpr float kLeastScale = 0x1p-120F;

// planar: byte i holds elements i, i + b, ..., i + 4 b of n elements in b = packed_size(n) bytes;
// consecutive: elements 5 i ... 5 i + 4. The first is the most significant digit.
enum class Layout : std::uint8_t { planar = 0, consecutive = 1 };

inline constexpr std::size_t packed_size(std::size_t n) noexcept {
    return n / kDigitsPerByte + (n % kDigitsPerByte != 0 ? 1 : 0);
}

// Whether every byte of untrusted digits is at most kLargestByte.
bool within_digits(ByteView packed) noexcept;

// float32, float16 or bfloat16 numbers.
bool is_supported(DType dtype) noexcept;

// Below, `values` holds n numbers of `dtype` (supported, aligned to their size) and `residual` n floats, or
// null for all 0.

// The largest |residual + value|; infinity if one of them is infinite or NaN. 0 for n = 0.
float absmax(DType dtype, const void* values, const float* residual, std::size_t n) noexcept;

// M for the largest magnitude `absmax` (finite) and a sparsity multiplier in [1, 2): their product, at most
// the largest float, 0 below kLeastScale.
float scale_of(float absmax, float sparsity_multiplier) noexcept;

// With x = residual + value: digit 2 where x > scale / 2, 0 where x < -scale / 2, else 1; packs digits and
// sets residual = x - scale * (digit - 1). Scale 0 stands for a scale that nothing reaches. `packed` has
// packed_size(n) bytes.
void quantise(DType dtype, const void* values, float* residual, std::size_t n, float scale, Layout layout,
              std::uint8_t* packed) noexcept;

// The reverse, fused: out[i] += scale * (digit - 1) where the digit is not 1, other elements untouched; or,
// if `accumulate` is false, out[i] = scale * (digit - 1). `scale` is finite; a sum is rounded to dtype once
// more, to nearest even. Every byte must be at most kLargestByte; padding is not looked at.
void expand(DType dtype, const std::uint8_t* packed, std::size_t n, float scale, Layout layout,
            bool accumulate, void* out) noexcept;

}  // namespace nncodec::ternary
