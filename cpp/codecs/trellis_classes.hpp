// Statistics of a trellis's levels, and the classes and tables that they are worth.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <vector>

#include "codecs/trellis_model.hpp"

namespace nncodec::trellis_codec {

inline constexpr double kClassBits = 22;  // that a class's bound, parameters and number of centroids cost

// Of levels by sum (what makes classes), union and symbol. Only sums from `first` to `last` occur.
struct Statistics {
    static constexpr std::size_t kSums = 256;
    static constexpr std::size_t kSymbols = 256;
    static constexpr std::size_t kPoints = kMaxCentroids + 1;

    std::vector<std::uint64_t> counts = std::vector<std::uint64_t>(kSums * 2 * kSymbols);
    std::vector<double> weight = std::vector<double>(kSums * kPoints);     // of points 1 ... from zero
    std::vector<double> deviation = std::vector<double>(kSums * kPoints);  // outwards, in steps, weighted
    std::size_t first = kSums;
    std::size_t last = 0;
    double square = 0;  // of errors without centroids
    std::uint64_t raw_bits = 0;
    std::uint64_t elements = 0;

    bool occurs(std::size_t sum) const noexcept { return first <= sum && sum <= last; }
    void add(const Statistics& other);
    void multiply(unsigned times) noexcept;  // as if everything had occurred so often
    void clear() noexcept;
};

// What one run adds to statistics.
struct Run {
    std::span<const float> values;  // in units of their steps: value / multiplier
    std::span<const std::int16_t> levels;
    std::span<const std::uint8_t> unions;
    std::span<const std::uint8_t> sums;
    std::span<const float> weights;  // of squared errors; empty: all 1
};
void collect(const Run& run, const Model& model, Statistics& into);

// Chooses bounds (unless those of the model are to be kept), tables (parametric or not) and centroids for
// these statistics; returns the bits of the streams (raw bits included).
double choose_tables(const Statistics& statistics, Model& model, bool centroids, bool keep_bounds);

// The same for a model that stays parametric, to search with: what its streams will cost under the tables
// that a plan would choose, and prices of levels under those.
struct Prices {
    double stream_bits = 0;
    double table_bits = 0;  // that histograms take more than parameters
    std::vector<std::uint16_t> costs;
    bool only_parameters = false;  // histograms would be larger by far, or were not looked at
};
Prices choose_prices(const Statistics& statistics, double share, Model& model, bool centroids, int radius,
                     bool histograms = true);

// Squared error with the model's centroids, in steps.
double squared_error(const Statistics& statistics, const Model& model);

// Prices of levels for the search, [class][union][level + radius], in 1/256 bit.
std::vector<std::uint16_t> costs_of(const Model& model, int radius);

// A first guess: a class per `width` sums, Gaussian tables.
void guess_tables(std::span<const std::uint64_t> elements_of_sum, Model& model);

}  // namespace nncodec::trellis_codec
