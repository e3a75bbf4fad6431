// k-means codebooks: the exact optimum for scalars, Lloyd's iteration for short vectors, assignment.
// Arithmetic: docs/format.md#k-means
//
// What surprises: for scalars an optimal cluster is an interval, so a dynamic programme over sorted values
// finds the optimum, and the best start of the last interval never moves left as its end moves right, so that
// divide and conquer finds a whole layer in n log n steps. Nobody needs random starts.
//
// +, -, *, / and comparisons of doubles in a fixed order; the same centroids on every machine.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace nncodec::kmeans {

inline constexpr std::size_t kMaxClusters = 65536;

struct Codebook {
    std::vector<double> centroids;  // ascending, distinct; fewer than asked for where there are fewer values
    double objective = 0;           // sum of weight * (value - centroid)^2
};

// The optimum of sum of weight * (value - nearest centroid)^2 for `values` in ascending order (equal ones may
// repeat). `weights`: one per value, at least 0, or empty for all 1. `clusters` at least 1. Throws
// ArgumentError for values out of order or not finite, or weights that are negative or not finite.
Codebook optimal(std::span<const double> values, std::span<const double> weights, std::size_t clusters);

// Index of the nearest of ascending centroids, the lower one halfway. `out` has the size of `values`.
void assign(std::span<const float> values, std::span<const float> centroids, std::span<std::uint16_t> out,
            std::size_t threads);

// Lloyd's iteration on vectors of `dimension` numbers (1 to 8), at most `steps` times or until nothing moves,
// from `centroids`, which it changes. Centroids without members stay. `weights` one per vector or empty.
// Returns the objective of each step, which never rises but for rounding; `out` gets the indices under the
// last centroids. The same for any number of threads.
std::vector<double> lloyd(std::span<const float> vectors, std::size_t dimension,
                          std::span<const float> weights, std::span<float> centroids, std::size_t steps,
                          std::span<std::uint16_t> out, std::size_t threads);

}  // namespace nncodec::kmeans
