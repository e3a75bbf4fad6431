// Sums of Gaussian kernels between all pairs of points: what kernel density estimates of entropy are made of.
//
// Surprising at first sight:
// * The scale is in the points: the exponent of a pair is its squared distance. Divide points by
//   sqrt(2 sigma^2) before.
// * Both of Kolchinsky and Tracey's bounds come from one pass: exp(-x) is the fourth power of exp(-x / 4).
// * Pairs further apart than kCutoff count 0: what is dropped is below 4e-18 of a point's own 1.
// * n points take O(n) memory; pairs that are known to be far after a few dimensions are left early, which
//   changes no bit of the result.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace nncodec {

inline constexpr float kKernelCutoff = 160.0F;  // squared distance
inline constexpr std::size_t kKernelSums = 4;   // numbers per point
inline constexpr float kKernelLargest = 1e15F;  // coordinates must not exceed it

// points: n rows of d float32, |x| <= kKernelLargest, none NaN. Rows are sorted by class; class c ends before
// row class_ends[c], and the last end is n.
// sums[4 i ...]: over all j, over the j of i's class, of exp(-|x_i - x_j|^2); then both of exp(-|..|^2 / 4).
// The same bits for every instruction set and number of threads (0: all cores).
void kernel_sums(std::span<const float> points, std::size_t d, std::span<const std::uint32_t> class_ends,
                 std::span<double> sums, std::size_t threads);

}  // namespace nncodec
