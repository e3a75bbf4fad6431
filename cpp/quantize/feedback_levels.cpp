// Feedback without a model: classes, prices and paths in turn.
#include <algorithm>
#include <cmath>
#include <vector>

#include "base/error.hpp"
#include "quantize/feedback.hpp"
#include "quantize/scales.hpp"
#include "quantize/trellis_kernels.hpp"

namespace nncodec::feedback {
namespace {

constexpr double kRoom = 1.5;  // feedback moves targets beyond the weights

std::vector<std::uint8_t> classes_of(const Layout& layout, std::span<const float> weights,
                                     std::size_t threads, std::size_t& classes) {
    const ByteView bytes{reinterpret_cast<const std::uint8_t*>(weights.data()), weights.size_bytes()};
    const FloatSource source(DType::float32, bytes);
    const scales::View view{layout.rows, layout.columns, 1};
    const scales::Scales found = scales::fit(source, 0, view, scales::Axes::both, threads);
    std::vector<std::uint8_t> contexts(weights.size());
    classes = 1;
    for (std::size_t row = 0, i = 0; row < layout.rows; ++row) {
        for (std::size_t column = 0; column < layout.columns; ++column, ++i) {
            contexts[i] = static_cast<std::uint8_t>(found.row[row] + found.column[column]);
            classes = std::max<std::size_t>(classes, contexts[i] + 1U);
        }
    }
    return contexts;
}

int radius_of(std::span<const float> weights) {
    float largest = 0;
    for (const float x : weights) largest = std::max(largest, std::abs(x));
    if (!(largest < 2.0F * trellis::kMaxRadius)) {
        throw ArgumentError("the step is too fine: weights of up to " + shown(largest) + " steps");
    }
    return std::min(static_cast<int>(kRoom * static_cast<double>(largest) / 2) + 6, trellis::kMaxRadius);
}

// A level's place in the tables.
std::size_t entry(const trellis::TableShape& shape, std::size_t context, unsigned union_index, int level) {
    const int inside = std::clamp(level, -shape.radius, shape.radius);
    return (2 * context + union_index) * shape.width() + static_cast<std::size_t>(inside + shape.radius);
}

// Visits weights with the union that each level is met in.
template <typename Visit>
void walk(const Layout& layout, const trellis::Code& code, std::span<const std::int16_t> levels,
          Visit visit) {
    std::size_t first = 0;
    for (const std::size_t end : layout.strands) {
        unsigned state = 0;
        for (std::size_t column = 0; column < layout.columns; ++column) {
            for (std::size_t row = first; row < end; ++row) {
                const std::size_t i = row * layout.columns + column;
                visit(i, trellis::Code::union_of(state));
                state = code.next(state, static_cast<unsigned>(levels[i]) & 1);
            }
        }
        first = end;
    }
}

}  // namespace

double choose_levels(const Plan& plan, const Layout& layout, std::span<const float> weights,
                     const Sides& sides, std::size_t threads, std::span<std::int16_t> levels) {
    if (weights.empty()) return 0;
    if (weights.size() != layout.rows * layout.columns) throw ArgumentError("weights must be rows x columns");
    std::size_t classes = 1;
    const std::vector<std::uint8_t> contexts = classes_of(layout, weights, threads, classes);
    const trellis::TableShape shape{classes, radius_of(weights)};
    const trellis::Alphabet alphabet = plan.options.alphabet;
    std::vector<std::uint64_t> counts(shape.size());
    for (std::size_t i = 0; i < weights.size(); ++i) {
        const int below = static_cast<int>(std::nearbyint(weights[i]));
        for (unsigned u = 0; u < 2; ++u) {
            ++counts[entry(shape, contexts[i], u, trellis::level_at_or_below(alphabet, u, below))];
        }
    }
    std::vector<float> targets(weights.size());
    const trellis::Code& code = trellis::code_of(plan.options.states);
    double error = 0;
    for (unsigned pass = 0; pass < plan.passes; ++pass) {
        const std::vector<std::uint16_t> costs = trellis::costs_of(counts, shape);
        const Model model{plan.options, shape, costs, {alphabet, classes, 0, {}}, contexts};
        error = quantise(model, layout, weights, sides, plan.delay, threads, {levels, targets});
        std::fill(counts.begin(), counts.end(), 0);
        walk(layout, code, levels,
             [&](std::size_t i, unsigned u) { ++counts[entry(shape, contexts[i], u, levels[i])]; });
    }
    return error;
}

}  // namespace nncodec::feedback
