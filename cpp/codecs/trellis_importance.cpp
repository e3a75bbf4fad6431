#include "codecs/trellis_importance.hpp"

#include <algorithm>
#include <numeric>

#include "codecs/trellis_side.hpp"
#include "quantize/scales.hpp"

namespace nncodec::trellis_codec {
namespace {

constexpr int kMostSteps = 80;  // eighths of an octave that importance moves a step

void set_steps(std::span<const double> weights, double mean, std::vector<std::int8_t>& steps) {
    steps.clear();
    for (const double w : weights) steps.push_back(static_cast<std::int8_t>(step_for(w, mean)));
    if (std::all_of(steps.begin(), steps.end(), [](int e) { return e == 0; })) steps.clear();
}

}  // namespace

int step_for(double weight, double mean) noexcept {
    const double ratio = std::clamp(weight / mean, 0x1p-20, 0x1p20);
    const std::int64_t log2 = scales::fixed_log2(ratio);
    return std::clamp(static_cast<int>((-log2 * 4 + (1 << 15)) >> 16), -kMostSteps, kMostSteps);
}

double set_row_and_column_steps(TensorSide& side, std::span<const float> weights) {
    const std::size_t n = side.row_elements();
    const auto all = static_cast<double>(weights.size());
    if (side.rows + n > kMostNumbers) {  // than decoders read
        double total = 0;
        for (const float w : weights) total += static_cast<double>(w);
        return total / all;
    }
    std::vector<double> row(side.rows);
    std::vector<double> column(n);
    for (std::size_t i = 0; i < weights.size(); ++i) {
        row[i / n] += static_cast<double>(weights[i]);
        column[i % n] += static_cast<double>(weights[i]);
    }
    const double total = std::accumulate(row.begin(), row.end(), 0.0);
    if (total > 0) {
        if (side.rows > 1) set_steps(row, total / static_cast<double>(side.rows), side.row_steps);
        if (n > 1) set_steps(column, total / static_cast<double>(n), side.column_steps);
    }
    return total / all;
}

}  // namespace nncodec::trellis_codec
