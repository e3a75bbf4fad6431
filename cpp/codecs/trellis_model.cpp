#include "codecs/trellis_model.hpp"

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>
#include <numeric>
#include <utility>

#include "codecs/trellis_symbols.hpp"

namespace nncodec::trellis_codec {
namespace {

constexpr std::array<float, 8> kEighths{1.0F,        1.09050775F, 1.1892071F,  1.29683959F,
                                        1.41421354F, 1.54221082F, 1.68179286F, 1.83400810F};

// Rows of constant part and of a part per element, a visit for each run within a row.
template <typename Visit>
void for_each_row(std::size_t row_elements, std::size_t first, std::size_t n, Visit visit) {
    for (std::size_t at = 0; at < n;) {
        const std::size_t row = (first + at) / row_elements;
        const std::size_t column = (first + at) % row_elements;
        const std::size_t count = std::min(row_elements - column, n - at);
        visit(row, column, at, count);
        at += count;
    }
}

}  // namespace

float step_factor(int eighths) noexcept {
    const auto f = static_cast<std::size_t>(eighths & 7);
    return std::ldexp(kEighths[f], eighths >> 3);
}

bool TensorSide::has_scales() const noexcept {
    return std::any_of(scales.begin(), scales.end(), [](const auto& axis) { return !axis.empty(); });
}

void TensorSide::set_split(std::span<const std::size_t> shape, unsigned a, unsigned b) noexcept {
    row_dimensions = a;
    column_dimensions = b;
    const auto product = [&](std::size_t from, std::size_t to) {
        return std::accumulate(shape.begin() + static_cast<std::ptrdiff_t>(from),
                               shape.begin() + static_cast<std::ptrdiff_t>(to), std::size_t{1},
                               std::multiplies<>());
    };
    rows = product(0, a);
    columns = product(a, b);
    positions = product(b, shape.size());
}

void TensorSide::set_kernel(std::span<const std::size_t> shape) noexcept {
    kernel_height = kernel_width = 1;
    if (shape.size() < 3) return;
    kernel_width = shape.back();
    for (std::size_t i = 2; i + 1 < shape.size(); ++i) kernel_height *= shape[i];
}

// of_one(sum) is a byte, of_row(own, parts, out) sets those of a row.
template <typename OfOne, typename OfRow>
void TensorSide::visit_sums(std::size_t first, std::span<std::uint8_t> out, OfOne of_one,
                            OfRow of_row) const {
    if (out.empty()) return;
    if (!has_scales()) {
        std::fill(out.begin(), out.end(), of_one(offset));
        return;
    }
    const std::size_t n = row_elements();
    const bool flat_rows = scales[1].empty() && scales[2].empty();
    // The parts of elements' places in their row, from one of them on.
    const auto parts_from = [this](std::size_t place, std::span<std::int16_t> parts) {
        std::size_t c = place / positions;
        std::size_t p = place % positions;
        for (std::int16_t& part : parts) {
            part = static_cast<std::int16_t>((scales[1].empty() ? 0 : scales[1][c]) +
                                             (scales[2].empty() ? 0 : scales[2][p]));
            if (++p < positions) continue;
            p = 0;
            ++c;
        }
    };
    // A row's own part is offset + scale: few values, so most rows are copies of another one.
    constexpr int kLeast = -1024;
    thread_local std::vector<std::int16_t> in_row;
    thread_local std::vector<std::uint32_t> known(2560);  // first element of a row like it, and 1
    thread_local std::vector<std::uint16_t> used;         // places in `known` that are not 0
    for (const std::uint16_t key : used) known[key] = 0;
    used.clear();
    // Of a row that is longer than the range only a part is needed, and it may be much longer.
    const bool long_rows = n > out.size();
    if (!flat_rows && !long_rows) {
        in_row.resize(n);
        parts_from(0, in_row);
    }
    for_each_row(
        n, first, out.size(), [&](std::size_t row, std::size_t column, std::size_t at, std::size_t count) {
            const int own = offset + (scales[0].empty() ? 0 : scales[0][row]);
            const auto to = out.subspan(at, count);
            if (flat_rows) {
                std::fill(to.begin(), to.end(), of_one(own));
                return;
            }
            if (long_rows) {
                in_row.resize(count);
                parts_from(column, in_row);
            }
            const auto key = static_cast<std::uint16_t>(own - kLeast);
            if (count == n && known[key] != 0) {
                std::copy_n(out.data() + (known[key] - 1), n, to.data());
                return;
            }
            const auto parts = std::span(std::as_const(in_row)).subspan(long_rows ? 0 : column, count);
            of_row(own, parts, to);
            if (count != n) return;
            used.push_back(key);
            known[key] = static_cast<std::uint32_t>(at + 1);
        });
}

void TensorSide::sums(std::size_t first, std::span<std::uint8_t> out) const {
    visit_sums(
        first, out, [](int sum) { return static_cast<std::uint8_t>(std::clamp(sum, 0, 255)); },
        [](int own, std::span<const std::int16_t> parts, std::span<std::uint8_t> to) {
            class_order::sums_of_row(own, parts, to);
        });
}

void TensorSide::classes(std::size_t first, std::span<std::uint8_t> out, const SumMap& map) const {
    visit_sums(
        first, out, [&map](int sum) { return map[static_cast<std::size_t>(std::clamp(sum, 0, 255))]; },
        [&map](int own, std::span<const std::int16_t> parts, std::span<std::uint8_t> to) {
            class_order::classes_of_row(own, parts, map, to);
        });
}

void TensorSide::multiply_steps(std::size_t first, std::span<float> values) const {
    if (!has_steps()) return;
    constexpr float kLargest = std::numeric_limits<float>::max();
    for_each_row(row_elements(), first, values.size(),
                 [&](std::size_t row, std::size_t column, std::size_t at, std::size_t count) {
                     const int own = step.value_or(0) + (row_steps.empty() ? 0 : row_steps[row]);
                     const float factor = step_factor(own);
                     for (std::size_t i = 0; i < count; ++i) {
                         const float m =
                             column_steps.empty() ? factor : step_factor(own + column_steps[column + i]);
                         const float x = values[at + i] * m;
                         values[at + i] = std::min(std::max(x, -kLargest), kLargest);
                     }
                 });
}

void TensorSide::divide_steps(std::size_t first, std::span<float> values) const {
    if (!has_steps()) return;
    for_each_row(row_elements(), first, values.size(),
                 [&](std::size_t row, std::size_t column, std::size_t at, std::size_t count) {
                     const int own = step.value_or(0) + (row_steps.empty() ? 0 : row_steps[row]);
                     for (std::size_t i = 0; i < count; ++i) {
                         const int all = own + (column_steps.empty() ? 0 : column_steps[column + i]);
                         values[at + i] = values[at + i] / step_factor(all);
                     }
                 });
}

std::size_t Model::elements() const noexcept {
    std::size_t n = 0;
    for (const TensorSide& tensor : tensors) n += tensor.elements;
    return n;
}

bool Model::has_symbols(bool (*kind)(unsigned), std::size_t first, std::size_t count) const noexcept {
    const std::size_t end = std::min(tables.size(), count == 0 ? tables.size() : first + count);
    for (std::size_t t = first; t < end; ++t) {
        for (std::size_t symbol = 0; symbol < tables[t].of.size(); ++symbol) {
            if (tables[t].of[symbol] != 0 && kind(static_cast<unsigned>(symbol))) return true;
        }
    }
    return false;
}

bool Model::has_large() const noexcept {
    return has_symbols(trellis_symbols::is_large);
}

bool Model::has_huge() const noexcept {
    return has_symbols(trellis_symbols::is_huge);
}

SumMap Model::class_of_sum() const noexcept {
    SumMap map{};
    std::size_t c = 0;
    for (std::size_t sum = 0; sum < map.size(); ++sum) {
        while (c < bounds.size() && sum >= bounds[c]) ++c;
        map[sum] = static_cast<std::uint8_t>(c);
    }
    return map;
}

int Model::point(std::size_t class_index, unsigned union_index, int level) const noexcept {
    const int grid = trellis::point_of(alphabet, union_index, level);
    const auto size = static_cast<std::size_t>(std::abs(grid));
    int point = 256 * std::abs(grid);
    const auto& of = centroids[class_index];
    if (size >= 1 && size <= of.size()) point += 4 * of[size - 1];
    return grid < 0 ? -point : point;
}

bool Model::has_layouts() const noexcept {
    return std::any_of(tensors.begin(), tensors.end(),
                       [](const TensorSide& tensor) { return !tensor.layout.is_stored(); });
}

void Model::sums_of(std::size_t first, std::span<std::uint8_t> out) const {
    for_each_part(tensors, first, out.size(),
                  [&](const TensorSide& tensor, std::size_t from, std::size_t at, std::size_t count) {
                      tensor.sums(from, out.subspan(at, count));
                  });
}

void Model::classes_of(std::size_t first, std::span<std::uint8_t> out) const {
    const SumMap map = class_of_sum();
    for_each_part(tensors, first, out.size(),
                  [&](const TensorSide& tensor, std::size_t from, std::size_t at, std::size_t count) {
                      tensor.classes(from, out.subspan(at, count), map);
                  });
}

void make_tables(Model& model) {
    model.tables.clear();
    for (const trellis::Parameters& p : model.parameters) {
        const auto& weights = trellis::point_weights(p.scale, p.shape);
        for (unsigned u = 0; u < 2; ++u)
            model.tables.push_back(trellis::parametric_table(weights, p.radius, model.alphabet, u));
    }
}

}  // namespace nncodec::trellis_codec
