// The loop of the integer transform that each instruction set fills; used by klt_integer.cpp alone.
#pragma once

#include <cstddef>
#include <cstdint>

namespace nncodec::klt {

inline constexpr std::size_t kIntegerRows = 8;      // at once
inline constexpr std::size_t kIntegerColumns = 16;  // strides are multiples of it

// For `rows` rows, a multiple of kIntegerRows: out[r * n + j] = float(sum over k < 2 * pairs of in[r * n + k]
// * entries[k / 2][j][k % 2])
// * unit, for j < n. Rows of `entries` have `stride` pairs. Where n is odd, one number beyond the last row is
// read: it meets a zero.
struct IntegerTask {
    const std::int16_t* in;
    std::size_t rows;
    std::size_t n;
    std::size_t pairs;
    const std::int16_t* entries;
    std::size_t stride;
    float unit;
    float* out;
};

void multiply_integers_scalar(const IntegerTask& task) noexcept;
void multiply_integers_avx2(const IntegerTask& task) noexcept;
void multiply_integers_avx512(const IntegerTask& task) noexcept;

}  // namespace nncodec::klt
