#include "codecs/trellis_evaluation.hpp"

#include <cmath>
#include <numbers>
#include <utility>

#include "codecs/trellis_estimate.hpp"
#include "codecs/trellis_side.hpp"

namespace nncodec::trellis_codec {
namespace {

constexpr std::size_t kTryAxesBelow = std::size_t{1} << 16;  // elements: fewer and axes are tried alone
constexpr std::size_t kTryWithoutBelow = 65;  // elements of a scale: fewer and its axis may not pay
// What a large tensor must save to go without scales of some axis, as a share of its cost.
constexpr double kLeastSaving = 0.0005;
// Where scales are not put to the test.
constexpr double kLowRate = 2.2;         // cost of an element, bits and error, below which all are tested
constexpr double kManyTimes = 4;         // what scales save over what they take
constexpr double kBitsOfScale = 4;       // about
constexpr double kVarianceOfOne = 0.57;  // of a Gaussian's magnitude, over the square of its mean

// Scales that may pay besides those of all axes: of `few` elements, or few that are not 0, some axes alone;
// of others, which take time, only where a scale has few.
std::vector<Axes> fewer_axes(const TensorSide& side, bool few) {
    const bool columns = side.columns > 1;
    const bool positions = side.positions > 1;
    const bool without_columns = few || (columns && side.rows * side.positions < kTryWithoutBelow);
    const bool without_rows = few || side.row_elements() < kTryWithoutBelow;
    const bool without_positions = positions && side.rows * side.columns < kTryWithoutBelow;
    std::vector<Axes> tries;
    if (columns && without_columns) tries.push_back({true, false, positions});
    if (without_rows) tries.push_back({false, columns, positions});
    if (positions && few) tries.push_back({false, false, true});
    if (without_columns || without_rows || without_positions) tries.push_back({});
    return tries;
}

// Whether scales of an axis save several times what they take, so that going without need not be tried: as
// many bits as bits_of_classes says, less what comes of measuring them by few elements.
bool pays_many_times(const TensorSide& side, std::size_t axis) {
    const std::vector<std::int16_t>& scales = side.scales[axis];
    if (scales.size() < 2 || side.elements / scales.size() < kTryWithoutBelow) return false;
    const auto n = static_cast<double>(scales.size());
    const auto elements = static_cast<double>(side.elements);
    double sum = 0;
    double square = 0;
    for (const std::int16_t scale : scales) {
        const double x = static_cast<double>(scale) * std::numbers::ln2 / 8;
        sum += x;
        square += x * x;
    }
    const double variance = (square - sum * sum / n) / n - kVarianceOfOne * n / elements;
    return variance * elements * std::numbers::log2e > kManyTimes * (kBitsOfScale * n + std::sqrt(elements));
}

}  // namespace

Numbers::Numbers(const FloatSource& source, std::span<const TensorSide> tensors) {
    std::span<const float> all = source.in_place();
    if (all.empty()) {
        loaded_.resize(source.size());
        load_floats(source, 0, loaded_);
        all = loaded_;
    }
    std::size_t first = 0;
    for (const TensorSide& tensor : tensors) {
        of_.push_back(all.subspan(first, tensor.elements));
        first += tensor.elements;
    }
}

bool Evaluation::can_have_scales(const TensorSide& side) const noexcept {
    // Lists of a table of a hundred million words would be longer than decoders read.
    const std::size_t numbers =
        side.rows + side.columns + side.positions + side.row_steps.size() + side.column_steps.size();
    return classes_ && side.row_dimensions != 0 && side.elements != 0 && numbers <= kMostNumbers;
}

Candidate Evaluation::with_axes(const TensorSide& side, std::span<const float> values,
                                const Axes& axes) const {
    Candidate one{side};
    one.base = fit_scales(one.side, values, axes, threads_);
    one.side.offset = offset_at(one.base, step_);
    one.cost = estimated_cost(one.side, values, step_, share_);
    return one;
}

Candidate Evaluation::with_all_axes(const TensorSide& side, std::span<const float> values) const {
    if (!can_have_scales(side)) return with_axes(side, values, {});
    return with_axes(side, values, {true, side.columns > 1, side.positions > 1});
}

void Evaluation::try_fewer_axes(std::span<const float> values, Candidate& best) const {
    if (!can_have_scales(best.side)) return;
    const TensorSide all = best.side;
    const bool low_rate = best.cost < kLowRate * static_cast<double>(all.elements);
    const Axes needed{!low_rate && pays_many_times(all, 0), !low_rate && pays_many_times(all, 1),
                      !low_rate && pays_many_times(all, 2)};
    for (const Axes& axes : fewer_axes(all, low_rate || all.elements < kTryAxesBelow)) {
        if ((needed.rows && !axes.rows) || (needed.columns && !axes.columns) ||
            (needed.positions && !axes.positions))
            continue;
        Candidate one = with_axes(best.side, values, axes);
        const double margin = best.side.elements < kTryAxesBelow ? 0 : kLeastSaving * best.cost;
        if (one.cost < best.cost - margin) best = std::move(one);
    }
}

void Evaluation::try_other_splits(const Shape& shape, std::span<const float> values, Candidate& best) const {
    const auto dimensions = static_cast<unsigned>(shape.size());
    if (dimensions < 3 || shape.back() <= shape[1]) return;
    const auto try_split = [&](unsigned rows, unsigned columns) {
        TensorSide side = best.side;
        side.set_split(shape, rows, columns);
        Candidate other = with_all_axes(side, values);
        if (other.cost < best.cost) best = std::move(other);
    };
    try_split(dimensions - 1, dimensions);
    if (dimensions > 3) try_split(1, dimensions - 1);
}

}  // namespace nncodec::trellis_codec
