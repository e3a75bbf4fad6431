// Orthonormal Walsh-Hadamard transform of runs of 2^k numbers. Arithmetic: docs/format.md#hadamard-transform
#pragma once

#include <cstddef>
#include <span>

namespace nncodec::hadamard {

inline constexpr std::size_t kMaxLength = 64;

bool possible(std::size_t length) noexcept;  // a power of two, 2 to kMaxLength

// Whole runs of `length` numbers, in place; its own inverse.
void transform(std::span<float> numbers, std::size_t length);

}  // namespace nncodec::hadamard
