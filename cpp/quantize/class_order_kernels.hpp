// The loops of class_order that vectors fill. Plain pointers only, as in other vector kernels.
#pragma once

#include <cstddef>
#include <cstdint>

namespace nncodec::class_order {

// next[c]: place of the next value of class c; moves on. Returns how many elements are done: whole vectors.
std::size_t restore_avx512(const std::uint8_t* classes, std::size_t n, const std::int16_t* values,
                           std::uint32_t* next, std::int16_t* out) noexcept;

// out[i] = map[own + parts[i], clamped to 0 .. 255]; map has 256 entries.
void classes_of_row_avx512(int own, const std::int16_t* parts, std::size_t n, const std::uint8_t* map,
                           std::uint8_t* out) noexcept;

// Adds to counts[c] how often each class below n_classes occurs. Returns how many elements are done: whole
// vectors.
std::size_t count_avx2(const std::uint8_t* classes, std::size_t n, unsigned n_classes,
                       std::uint32_t* counts) noexcept;
std::size_t count_avx512(const std::uint8_t* classes, std::size_t n, unsigned n_classes,
                         std::uint32_t* counts) noexcept;

}  // namespace nncodec::class_order
