// Tables of trellis levels from three bytes each, for tensors too small to pay for histograms: a generalised
// Gaussian of some scale and shape, summed over the neighbourhood of each point of a union quantiser. Bytes:
// docs/format.md#parametric-tables
//
// What surprises: there is no libm here, as a table must be the same on every machine. Logarithms and powers
// are integers, made bit by bit.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <vector>

#include "entropy/rans.hpp"
#include "quantize/trellis.hpp"

namespace nncodec::trellis {

inline constexpr unsigned kMaxShape = 14;
inline constexpr unsigned kMaxSymbolRadius = 127;
inline constexpr std::size_t kTablePoints = 128;  // a table's points lie at 0 .. 127 steps from zero

struct Parameters {
    std::uint8_t scale = 64;  // alpha = 2^((scale - 64) / 8) steps
    std::uint8_t shape = 14;  // beta = (shape + 2) / 8
    std::uint8_t radius = 1;  // symbols 128 - radius .. 128 + radius

    bool operator==(const Parameters&) const = default;
};

using PointWeights = std::array<std::uint64_t, kTablePoints>;

// Weight of the points at 0, 1, ... steps from zero: what a generalised Gaussian has within one step of each.
// Kept, so asking again costs nothing. scale below 256, shape at most kMaxShape.
const PointWeights& point_weights(unsigned scale, unsigned shape);

// Frequencies (of 4096) of the symbols 0 .. 128 + radius. Empty where the weights are all 0.
rans::Frequencies parametric_table(std::span<const std::uint64_t, kTablePoints> weights, unsigned radius,
                                   Alphabet alphabet, unsigned union_index);

// The same from parameters, which must be in range.
rans::Frequencies parametric_table(const Parameters& parameters, Alphabet alphabet, unsigned union_index);

// Counts of levels by union and distance of the point from zero: [union][steps], 2 x kTablePoints.
using FoldedCounts = std::array<double, 2 * kTablePoints>;

// About what counts cost under parametric tables of this scale and shape, in bits; infinity where there are
// none.
double folded_cost(const FoldedCounts& counts, Alphabet alphabet, unsigned scale, unsigned shape);

struct FoundParameters {
    unsigned scale = 64;
    unsigned shape = 14;
    double bits = 0;
};

// The parameters that code counts with the fewest bits, from a first guess on.
FoundParameters fit_parameters(const FoldedCounts& counts, Alphabet alphabet, unsigned scale, unsigned shape);

}  // namespace nncodec::trellis
