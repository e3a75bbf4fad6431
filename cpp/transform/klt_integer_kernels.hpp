// The loop of the integer transform that each instruction set fills; used by klt_integer.cpp alone.
#pragma once

#include <cstddef>
#include <cstdint>

namespace nncodec::klt {

inline constexpr std::size_t kIntegerRows = 8;    // at once
inline constexpr std::size_t kIntegerStrip = 16;  // columns that are stored together

// For `rows` rows, a multiple of kIntegerRows: out[r * n + j] = float(sum over k < 2 * pairs of in[r * n + k]
// * entry (k, j)) * unit, for j < n. Where n is odd, one number beyond the last row is read: it meets a zero.
// Entries lie strip after strip, so that a strip fills few cache lines, none of which competes with the
// others for a place; two of a column side by side.
struct IntegerTask {
    const std::int16_t* in;
    std::size_t rows;
    std::size_t n;
    std::size_t pairs;
    const std::int16_t* entries;
    float unit;
    float* out;
};

[[maybe_unused]] static constexpr std::size_t integer_entry_at(std::size_t k, std::size_t j,
                                                               std::size_t pairs) noexcept {
    return ((j / kIntegerStrip * pairs + k / 2) * kIntegerStrip + j % kIntegerStrip) * 2 + k % 2;
}

void multiply_integers_scalar(const IntegerTask& task) noexcept;
void multiply_integers_avx2(const IntegerTask& task) noexcept;
void multiply_integers_avx512(const IntegerTask& task) noexcept;

}  // namespace nncodec::klt
