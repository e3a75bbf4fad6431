// A matrix as the product of two thin ones. Arithmetic: docs/format.md#low-rank-product
//
// Only +, -, *, / and square roots of doubles in a fixed order, so that factors and products are the same
// everywhere.
#pragma once

#include <cstddef>
#include <span>
#include <vector>

namespace nncodec::low_rank {

// Term k of the product is left column k, times scales[k], times right row k. The factors carry the singular
// values on both sides (left: U S, right: S V'), the scales take one of them out again: an error of either
// factor then has the length of the error it makes in the product.
struct Factors {
    std::size_t rows = 0;
    std::size_t rank = 0;
    std::size_t columns = 0;
    std::vector<float> left;    // rows x rank
    std::vector<float> right;   // rank x columns
    std::vector<float> scales;  // rank, 1 / singular value
};

// Singular values, largest first, and as many terms as `keep` says of them (at least 1, at most all). Values
// are finite; both sides at least 1. Throws ArgumentError where the eigenvectors do not converge.
struct Choice {
    std::size_t rank = 0;  // 0: by energy
    double energy = 1;     // share of the sum of squares that is kept
};
Factors decompose(std::span<const double> matrix, std::size_t rows, std::size_t columns, const Choice& keep,
                  std::vector<double>& singular_values);

// out[i] = entry first + i of the product, in row-major order: the sum over ascending k of
// (left * scale) * right, in double precision.
void product(std::span<const float> left, std::span<const float> scales, std::span<const float> right,
             std::size_t columns, std::size_t first, std::span<double> out);

}  // namespace nncodec::low_rank
