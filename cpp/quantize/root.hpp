// Triangular root of a second moment, for error feedback. Plain IEEE arithmetic in a fixed order: the same on
// every machine.
#pragma once

#include <cstddef>
#include <span>

namespace nncodec {

// Replaces the lower triangle of a symmetric positive definite matrix A (n x n, row-major; only that triangle
// is read) by L with A = L^T L, and the rest by 0. Throws ArgumentError when A is not positive definite, or
// not finite.
void lower_root(std::span<double> matrix, std::size_t n);

}  // namespace nncodec
