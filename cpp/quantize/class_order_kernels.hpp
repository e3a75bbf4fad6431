// The loop of class_order::restore that AVX-512 fills. Plain pointers only, as in other vector kernels.
#pragma once

#include <cstddef>
#include <cstdint>

namespace nncodec::class_order {

// next[c]: place of the next value of class c; moves on. Returns how many elements are done: whole vectors.
std::size_t restore_avx512(const std::uint8_t* classes, std::size_t n, const std::int16_t* values,
                           std::uint32_t* next, std::int16_t* out) noexcept;

}  // namespace nncodec::class_order
