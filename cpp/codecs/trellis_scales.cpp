#include "codecs/trellis_scales.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <numeric>

#include "base/parallel.hpp"
#include "quantize/scales.hpp"

namespace nncodec::trellis_codec {
namespace {

constexpr std::int64_t kEighth = 8192;  // of an octave, in units of logarithms
constexpr std::size_t kLanes = 16;      // the order of summation is part of the result
constexpr std::size_t kBlockElements = std::size_t{1} << 16;

struct Sums {
    std::vector<double> row, column, position;
};

struct Weights {
    std::vector<float> column, position, element;  // element: of a row's elements, column x position

    void combine() {
        for (std::size_t c = 0; c < column.size(); ++c) {
            for (std::size_t p = 0; p < position.size(); ++p)
                element[c * position.size() + p] = column[c] * position[p];
        }
    }
};

float sum_in_lanes(std::span<const float> x, std::span<const float> weight) noexcept {
    std::array<float, kLanes> lanes{};
    std::size_t i = 0;
    for (; i + kLanes <= x.size(); i += kLanes) {
        for (std::size_t k = 0; k < kLanes; ++k) lanes[k] += std::abs(x[i + k]) * weight[i + k];
    }
    for (std::size_t k = 0; i < x.size(); ++i, ++k) lanes[k] += std::abs(x[i]) * weight[i];
    float sum = 0;
    for (const float lane : lanes) sum += lane;
    return sum;
}

// Row sums under the given weights; sums of columns and positions with the row's weight and the other axis's.
Sums pass(const TensorSide& t, std::span<const float> values, const Weights& weights, bool rows_only,
          bool row_weights, std::size_t threads) {
    const std::size_t n = t.row_elements();
    const std::size_t per_block = std::max<std::size_t>(16, kBlockElements / n);
    const std::size_t blocks = (t.rows + per_block - 1) / per_block;
    Sums sums{std::vector<double>(t.rows), std::vector<double>(t.columns), std::vector<double>(t.positions)};
    std::vector<Sums> of(rows_only ? 0 : blocks);
    parallel_for(blocks, threads, [&](std::size_t block) {
        std::vector<float> total(n);
        const std::size_t end = std::min(t.rows, (block + 1) * per_block);
        for (std::size_t r = block * per_block; r < end; ++r) {
            const auto x = values.subspan(r * n, n);
            const float sum = sum_in_lanes(x, weights.element);
            sums.row[r] = static_cast<double>(sum);
            if (rows_only) continue;
            const float weight = !row_weights ? 1.0F : sum > 0x1p-100F ? 1 / sum : 0.0F;
            for (std::size_t i = 0; i < n; ++i) total[i] += std::abs(x[i]) * weight;
        }
        if (rows_only) return;
        Sums& mine = of[block];
        mine.column.resize(t.columns);
        mine.position.resize(t.positions);
        for (std::size_t c = 0; c < t.columns; ++c) {
            for (std::size_t p = 0; p < t.positions; ++p) {
                const auto a = static_cast<double>(total[c * t.positions + p]);
                mine.column[c] += a * static_cast<double>(weights.position[p]);
                mine.position[p] += a * static_cast<double>(weights.column[c]);
            }
        }
    });
    for (const Sums& block : of) {
        for (std::size_t c = 0; c < t.columns; ++c) sums.column[c] += block.column[c];
        for (std::size_t p = 0; p < t.positions; ++p) sums.position[p] += block.position[p];
    }
    return sums;
}

std::int64_t log2_of(double value) noexcept {
    if (!(value >= std::numeric_limits<double>::min()) || !(value <= std::numeric_limits<double>::max()))
        return kNoScale;
    return scales::fixed_log2(value);
}

std::int64_t median_of(std::vector<std::int64_t> logs) {
    std::erase(logs, kNoScale);
    if (logs.empty()) return kNoScale;
    const auto middle = logs.begin() + static_cast<std::ptrdiff_t>(logs.size() / 2);
    std::nth_element(logs.begin(), middle, logs.end());
    return *middle;
}

// A scale of n numbers is worth knowing to 3.5 / sqrt(n) octaves, where its bits are what it saves.
std::uint8_t unit_for(std::size_t n) noexcept {
    return n >= 400 ? 0 : n >= 100 ? 1 : n >= 25 ? 2 : 3;
}

// Distances from the median in multiples of the unit; returns the median.
std::int64_t quantise(std::span<const double> values, std::uint8_t unit, std::vector<std::int16_t>& out) {
    std::vector<std::int64_t> logs(values.size());
    for (std::size_t i = 0; i < values.size(); ++i) logs[i] = log2_of(values[i]);
    const std::int64_t median = median_of(logs);
    out.assign(values.size(), 0);
    if (median == kNoScale) return median;
    const std::int64_t width = kEighth << unit;
    for (std::size_t i = 0; i < values.size(); ++i) {
        std::int64_t index = -127;
        if (logs[i] != kNoScale) {
            const std::int64_t away = logs[i] - median + width / 2;
            index =
                std::clamp<std::int64_t>(away >= 0 ? away / width : -((width - 1 - away) / width), -127, 127);
        }
        out[i] = static_cast<std::int16_t>(index * (1 << unit));
    }
    return median;
}

void set_weights(std::span<const double> sums, std::span<float> weights) noexcept {
    double total = 0;
    for (const double s : sums) total += s;
    const double mean = total / static_cast<double>(sums.size());
    for (std::size_t i = 0; i < sums.size(); ++i)
        weights[i] = sums[i] > mean * 0x1p-40 ? static_cast<float>(mean / sums[i]) : 0.0F;
}

void set_quantised(std::span<const std::int16_t> scales, std::span<float> weights) noexcept {
    for (std::size_t i = 0; i < scales.size(); ++i)
        weights[i] = weights[i] == 0 ? 0.0F : step_factor(-std::clamp<int>(scales[i], -200, 200));
}

void drop_if_constant(std::vector<std::int16_t>& scales) {
    if (std::all_of(scales.begin(), scales.end(), [](std::int16_t s) { return s == 0; })) scales.clear();
}

const std::array<double, 256>& bits_table() {
    static const auto table = [] {
        std::array<double, 256> bits{};
        for (std::size_t sum = 0; sum < bits.size(); ++sum) {
            const auto s = static_cast<double>(step_factor(static_cast<int>(sum) - kSumOfOneStep));
            bits[sum] = static_cast<double>(nncodec::scales::fixed_log2(1 + 5.8 * s * s)) * 0x1p-17;
        }
        return bits;
    }();
    return table;
}

}  // namespace

std::int64_t fit_scales(TensorSide& t, std::span<const float> values, const Axes& axes, std::size_t threads) {
    for (auto& axis : t.scales) axis.clear();
    if (t.elements == 0) return kNoScale;
    const bool several = axes.columns || axes.positions;
    Weights weights{std::vector<float>(t.columns, 1.0F), std::vector<float>(t.positions, 1.0F),
                    std::vector<float>(t.row_elements(), 1.0F)};
    const int rounds = !several ? 0 : t.elements > (std::size_t{1} << 20) ? 2 : 3;
    for (int round = 0; round < rounds; ++round) {
        const Sums sums = pass(t, values, weights, false, axes.rows, threads);
        if (axes.columns) set_weights(sums.column, weights.column);
        if (axes.positions) set_weights(sums.position, weights.position);
        weights.combine();
        if (round + 1 < rounds) continue;
        const std::size_t of_column = t.rows * t.positions;
        const std::size_t of_position = t.rows * t.columns;
        t.units[1] = unit_for(of_column);
        t.units[2] = unit_for(of_position);
        if (axes.columns) {
            quantise(sums.column, t.units[1], t.scales[1]);
            set_quantised(t.scales[1], weights.column);
        }
        if (axes.positions) {
            quantise(sums.position, t.units[2], t.scales[2]);
            set_quantised(t.scales[2], weights.position);
        }
        weights.combine();
    }
    const Sums sums = pass(t, values, weights, true, axes.rows, threads);
    const auto live = static_cast<std::size_t>(
        std::count_if(weights.element.begin(), weights.element.end(), [](float w) { return w > 0; }));
    if (live == 0) return kNoScale;
    const std::int64_t per_element = scales::fixed_log2(static_cast<double>(live));
    std::int64_t base = 0;
    t.units[0] = unit_for(t.row_elements());
    if (axes.rows) {
        base = quantise(sums.row, t.units[0], t.scales[0]);
        drop_if_constant(t.scales[0]);
    } else {
        base = log2_of(std::accumulate(sums.row.begin(), sums.row.end(), 0.0) / static_cast<double>(t.rows));
    }
    drop_if_constant(t.scales[1]);
    drop_if_constant(t.scales[2]);
    return base == kNoScale ? kNoScale : base - per_element;
}

std::uint8_t offset_at(std::int64_t base, double step) noexcept {
    if (base == kNoScale) return 0;
    const std::int64_t eighths = (base - scales::fixed_log2(step) + kEighth / 2) >> 13;
    return static_cast<std::uint8_t>(std::clamp<std::int64_t>(eighths + kSumOfOneStep, 0, 255));
}

double estimated_bits(std::uint8_t sum) noexcept {
    return bits_table()[sum];
}

}  // namespace nncodec::trellis_codec
