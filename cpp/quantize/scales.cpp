#include "quantize/scales.hpp"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <limits>
#include <numeric>

#include "base/parallel.hpp"
#include "entropy/adaptive_bytes.hpp"

namespace nncodec::scales {
namespace {

constexpr std::int64_t kStepsPerOctave = 3;
constexpr int kRounds = 2;  // of the alternation; a third changes nothing that is visible in the size
constexpr std::uint8_t kMaxRowIndex = 39;
constexpr std::uint8_t kMaxColumnIndex = kMaxContexts - 1 - kMaxRowIndex;
constexpr std::size_t kLanes = 8;  // the order of summation is part of the result

// Sums of |x| per row and per column, each element divided by the other axis's scale.
struct Sums {
    std::vector<double> row;
    std::vector<double> column;
};

// Blocks are a fixed number of rows, so that the partial sums do not depend on threads; at least 64 rows, so
// that the partial sums are small beside the tensor.
std::size_t rows_per_block(const View& view) noexcept {
    return std::max<std::size_t>(64, (std::size_t{1} << 16) / view.row_elements());
}

double sum_in_lanes(std::span<const double> values, std::span<const double> weights) noexcept {
    std::array<double, kLanes> lanes{};
    std::size_t i = 0;
    for (; i + kLanes <= values.size(); i += kLanes) {
        for (std::size_t k = 0; k < kLanes; ++k) lanes[k] += values[i + k] * weights[i + k];
    }
    for (std::size_t k = 0; i < values.size(); ++i, ++k) lanes[k] += values[i] * weights[i];
    double sum = 0;
    for (const double lane : lanes) sum += lane;
    return sum;
}

// One pass: row sums with the given column weights, column sums with the row weights that those row sums
// give.
Sums pass(const FloatSource& source, std::size_t first, const View& view,
          std::span<const double> column_weight, std::size_t threads) {
    const std::size_t per_block = rows_per_block(view);
    const std::size_t blocks = (view.rows + per_block - 1) / per_block;
    Sums sums{std::vector<double>(view.rows), std::vector<double>(view.columns)};
    std::vector<double> partial(blocks * view.columns);
    parallel_for(blocks, threads, [&](std::size_t block) {
        std::vector<double> x(view.row_elements());
        std::vector<double> a(view.columns);
        const std::span<double> column(partial.data() + block * view.columns, view.columns);
        const std::size_t end = std::min(view.rows, (block + 1) * per_block);
        for (std::size_t r = block * per_block; r < end; ++r) {
            source.load(first + r * view.row_elements(), x);
            for (std::size_t c = 0; c < view.columns; ++c) {
                double sum = 0;
                for (std::size_t k = 0; k < view.repeat; ++k) sum += std::abs(x[c * view.repeat + k]);
                a[c] = sum;
            }
            sums.row[r] = sum_in_lanes(a, column_weight);
            const double weight = sums.row[r] > 0 ? 1 / sums.row[r] : 0;
            for (std::size_t c = 0; c < view.columns; ++c) column[c] += a[c] * weight;
        }
    });
    for (std::size_t block = 0; block < blocks; ++block) {
        for (std::size_t c = 0; c < view.columns; ++c) sums.column[c] += partial[block * view.columns + c];
    }
    return sums;
}

// An index in absolute units, INT64_MIN for what has no logarithm.
std::int64_t absolute_index(double value) noexcept {
    if (!(value >= std::numeric_limits<double>::min()) || !(value <= std::numeric_limits<double>::max())) {
        return INT64_MIN;
    }
    return (fixed_log2(value) * kStepsPerOctave + (1 << 15)) >> 16;
}

// Indices of positive scales, the least (which goes to `base`) 0; the range is cut at `most` below the
// greatest (what lies deeper is as good as zero). A scale of 0 has index 0.
void quantise(std::span<const double> values, std::uint8_t most, std::span<std::uint8_t> out,
              std::int64_t& base) {
    std::vector<std::int64_t> index(values.size());
    std::int64_t greatest = INT64_MIN;
    std::int64_t least = INT64_MAX;
    for (std::size_t i = 0; i < values.size(); ++i) {
        index[i] = absolute_index(values[i]);
        if (index[i] == INT64_MIN) continue;
        greatest = std::max(greatest, index[i]);
        least = std::min(least, index[i]);
    }
    if (greatest == INT64_MIN) return;
    least = std::max(least, greatest - most);
    base = least;
    for (std::size_t i = 0; i < values.size(); ++i) {
        out[i] = static_cast<std::uint8_t>(std::max<std::int64_t>(index[i], least) - least);
    }
}

std::uint8_t largest(std::span<const std::uint8_t> values) noexcept {
    return values.empty() ? std::uint8_t{0} : *std::max_element(values.begin(), values.end());
}

void write_axis(ByteWriter& out, std::span<const std::uint8_t> values) {
    Bytes stream;
    adaptive::encode_bytes(values, stream);
    out.block(stream);
}

}  // namespace

View matrix_view(std::span<const std::size_t> shape) noexcept {
    View view{1, 1, 1};
    if (shape.size() >= 2) view = {shape[0], shape[1], 1};
    for (const std::size_t size : shape.size() >= 2 ? shape.subspan(2) : shape) {
        if (size > kMaxRowElements) return {};
        view.repeat *= size;
        if (view.repeat > kMaxRowElements) return {};
    }
    if (view.rows == 0 || view.columns == 0 || view.repeat == 0) return {};
    if (view.columns > kMaxRowElements / view.repeat) return {};
    return view;
}

void drop_if_constant(View& view, Scales& scales) noexcept {
    if (largest(scales.row) != 0 || largest(scales.column) != 0) return;
    view = {};
    scales = {};
}

std::int64_t fixed_log2(double value) noexcept {
    const auto bits = std::bit_cast<std::uint64_t>(value);
    const auto exponent = static_cast<std::int64_t>((bits >> 52) & 2047) - 1023;
    // Bit by bit: squaring a mantissa in [1, 2) doubles its logarithm; whether it reached 2 is the next bit.
    std::uint64_t mantissa = ((bits & ((std::uint64_t{1} << 52) - 1)) | (std::uint64_t{1} << 52)) >> 21;
    std::int64_t fraction = 0;
    for (int i = 0; i < 16; ++i) {
        mantissa = (mantissa * mantissa) >> 31;
        const std::uint64_t reached = mantissa >> 32;
        mantissa >>= reached;
        fraction = (fraction << 1) | static_cast<std::int64_t>(reached);
    }
    return exponent * 65536 + fraction;
}

Scales fit(const FloatSource& source, std::size_t first, const View& view, Axes axes, std::size_t threads) {
    Scales scales;
    if (view.flat()) return scales;
    const bool rows = (static_cast<unsigned>(axes) & 1U) != 0;
    const bool columns = (static_cast<unsigned>(axes) & 2U) != 0;
    std::vector<double> weight(view.columns, 1.0);
    Sums sums = pass(source, first, view, weight, threads);
    for (int round = 1; columns && round < kRounds; ++round) {
        for (std::size_t c = 0; c < view.columns; ++c)
            weight[c] = sums.column[c] > 0 ? 1 / sums.column[c] : 0;
        sums = pass(source, first, view, weight, threads);
    }
    scales.row.resize(view.rows);
    scales.column.resize(view.columns);
    std::int64_t row_base = 0;
    std::int64_t column_base = 0;
    if (columns) quantise(sums.column, kMaxColumnIndex, scales.column, column_base);
    if (rows) quantise(sums.row, kMaxRowIndex, scales.row, row_base);
    // Where the weights were 1, a row's sum is columns * repeat times its mean |x|. Where they were inverse
    // column sums, row sum * column sum is (rows that are not all zero) * repeat times the mean.
    const auto live = static_cast<double>(
        std::count_if(sums.row.begin(), sums.row.end(), [](double sum) { return sum > 0; }));
    if (live == 0) return scales;
    if (!rows) row_base = absolute_index(std::accumulate(sums.row.begin(), sums.row.end(), 0.0) / live);
    if (row_base == INT64_MIN) return scales;  // sums that overflowed, as of weights that are denormal
    const double elements =
        (columns ? live : static_cast<double>(view.columns)) * static_cast<double>(view.repeat);
    scales.base = row_base + column_base - absolute_index(elements);
    return scales;
}

void align(std::span<Scales> all) {
    std::int64_t least = INT64_MAX;
    std::int64_t greatest = INT64_MIN;  // context of any row
    for (const Scales& s : all) {
        if (s.base == INT64_MIN) continue;
        least = std::min(least, s.base);
        greatest = std::max(greatest, s.base + largest(s.row));
    }
    if (greatest == INT64_MIN) return;
    least = std::max(least, greatest - kMaxRowIndex);
    for (Scales& s : all) {
        for (std::uint8_t& index : s.row) {
            const std::int64_t shifted = s.base == INT64_MIN ? 0 : s.base + index - least;
            index = static_cast<std::uint8_t>(std::max<std::int64_t>(shifted, 0));
        }
        if (s.base != INT64_MIN) s.base = least;
    }
}

void write_scales(ByteWriter& out, const View& view, const Scales& scales) {
    out.varint(view.columns);
    if (view.flat()) return;
    out.varint(view.repeat);
    const unsigned axes = (largest(scales.row) > 0 ? 1U : 0U) | (largest(scales.column) > 0 ? 2U : 0U);
    out.u8(static_cast<std::uint8_t>(axes));
    if ((axes & 1U) != 0) write_axis(out, scales.row);
    if ((axes & 2U) != 0) write_axis(out, scales.column);
}

void read_scales(ByteReader& in, std::size_t elements, View& view, Scales& scales) {
    view = {};
    scales = {};
    view.columns = static_cast<std::size_t>(in.varint("columns", kMaxRowElements));
    if (view.columns == 0) return;
    view.repeat = static_cast<std::size_t>(in.varint("repeat", kMaxRowElements / view.columns));
    if (view.repeat == 0) in.fail("repeat", "is 0");
    if (elements == 0 || elements % view.row_elements() != 0) {
        in.fail("columns",
                "times repeat does not divide the tensor's " + std::to_string(elements) + " elements");
    }
    view.rows = elements / view.row_elements();
    const unsigned axes = in.u8("axes");
    if (axes > 3) in.fail("axes", "is " + std::to_string(axes) + ", above 3");
    // The streams first: no memory for the rows of a file that does not have them.
    const ByteView row_stream = (axes & 1U) != 0 ? in.block("row scales") : ByteView{};
    const ByteView column_stream = (axes & 2U) != 0 ? in.block("column scales") : ByteView{};
    scales.row.resize(view.rows);
    scales.column.resize(view.columns);
    if ((axes & 1U) != 0) adaptive::decode_bytes(row_stream, scales.row);
    if ((axes & 2U) != 0) adaptive::decode_bytes(column_stream, scales.column);
    const std::size_t top = std::size_t{largest(scales.row)} + largest(scales.column);
    if (top >= kMaxContexts) {
        in.fail("scales",
                "reach class " + std::to_string(top) + ", above " + std::to_string(kMaxContexts - 1));
    }
}

ContextMap ContextMap::make(std::span<const View> views, std::span<const Scales> scales,
                            std::span<const std::size_t> sizes) {
    ContextMap map;
    for (const Scales& s : scales) {
        map.contexts_ =
            std::max<std::size_t>(map.contexts_, std::size_t{largest(s.row)} + largest(s.column) + 1);
    }
    if (map.contexts_ == 1) return map;
    if (views.size() == 1) {
        map.row_length_ = views[0].row_elements();
        map.row_ = scales[0].row;
        map.column_.reserve(map.row_length_);
        for (const std::uint8_t index : scales[0].column)
            map.column_.insert(map.column_.end(), views[0].repeat, index);
        return map;
    }
    std::size_t length = 0;
    std::size_t total = 0;
    for (std::size_t t = 0; t < views.size(); ++t) {
        const bool by_column = !views[t].flat() && largest(scales[t].column) > 0;
        const std::size_t run = views[t].flat() ? sizes[t]
                                : by_column     ? views[t].repeat
                                                : views[t].row_elements();
        length = std::gcd(length, run);
        total += sizes[t];
    }
    map.row_length_ = std::min(std::max<std::size_t>(length, 1), kMaxRowElements);
    if (length > kMaxRowElements) map.row_length_ = std::gcd(length, kMaxRowElements);
    map.row_.reserve(total / map.row_length_);
    for (std::size_t t = 0; t < views.size(); ++t) {
        for (std::size_t e = 0; e < sizes[t]; e += map.row_length_) {
            const View& v = views[t];
            const std::size_t context =
                v.flat() ? 0U
                         : scales[t].row[e / v.row_elements()] + scales[t].column[e / v.repeat % v.columns];
            map.row_.push_back(static_cast<std::uint8_t>(context));
        }
    }
    return map;
}

rans::Layout ContextMap::layout(std::size_t first, std::size_t n) const noexcept {
    if (uniform()) return {n, std::max<std::size_t>(n, 1), {}, {}};
    const std::size_t rows = (n + row_length_ - 1) / row_length_;
    return {n, row_length_, std::span(row_).subspan(first / row_length_, rows), column_};
}

}  // namespace nncodec::scales
