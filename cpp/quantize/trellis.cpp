#include "quantize/trellis.hpp"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <limits>
#include <memory>
#include <string>

#include "base/dispatch.hpp"
#include "base/error.hpp"
#include "quantize/trellis_kernels.hpp"

namespace nncodec::trellis {
namespace {

constexpr std::size_t kBlock =
    32;  // samples per lane between looks at the lanes' ends; rows stay in the L1 cache
static_assert(kBlock % kNormaliseEvery == 0);

// States s and s ^ h1 belong to the same union (h1 is even) and lead to the same two states.
std::vector<Butterfly> butterflies_of(const Code& code) {
    std::vector<Butterfly> list;
    list.reserve(code.states / 2);
    for (unsigned union_index = 0; union_index < 2; ++union_index) {
        for (unsigned state = union_index; state < code.states; state += 2) {
            const unsigned other = state ^ code.h1;
            if (other < state) continue;
            list.push_back({static_cast<std::uint16_t>(state), static_cast<std::uint16_t>(other),
                            static_cast<std::uint16_t>(code.next(state, 0)),
                            static_cast<std::uint16_t>(code.next(state, 1))});
        }
    }
    return list;
}

// The state before, from the state after and the parity that led to it. The top bit of the state after is the
// union's index, because h0 is the only one of the two polynomials with a top coefficient.
unsigned previous(const Code& code, unsigned state, unsigned parity) noexcept {
    const unsigned union_index = state >= code.states / 2 ? 1 : 0;
    const unsigned shifted = state ^ (union_index != 0 ? code.h0 >> 1 : 0) ^ (parity != 0 ? code.h1 >> 1 : 0);
    return shifted << 1 | union_index;
}

// Up to 32 neighbouring lanes of a call, which are coded together: element i of the group's lane j is number
// i * stride + j.
struct Group {
    const float* values;  // of its first lane
    const std::uint8_t* contexts;
    std::int16_t* levels;
    std::uint8_t* unions;  // or none
    std::size_t n;         // from the first lane's first element to the end
    std::size_t stride;    // lanes of the call
    std::size_t lanes;
    std::size_t rows() const noexcept { return (n + stride - 1) / stride; }
    std::size_t in_last_row() const noexcept { return std::min(lanes, n - (rows() - 1) * stride); }
    std::size_t in_row(std::size_t row) const noexcept { return row + 1 < rows() ? lanes : in_last_row(); }
};

struct Scratch {
    explicit Scratch(const Code& code, std::size_t rows)
        : metrics(2 * code.states * kLaneGroup),
          branches(kBlock),
          below(std::make_unique_for_overwrite<std::int16_t[]>(rows * kLaneGroup)),
          upper(std::make_unique_for_overwrite<std::uint8_t[]>(rows * kLaneGroup)),
          decisions(std::make_unique_for_overwrite<std::uint32_t[]>(rows * code.states)),
          steps(rows) {}
    std::vector<std::uint16_t> metrics;
    std::vector<BranchRow> branches;
    std::unique_ptr<std::int16_t[]> below;
    std::unique_ptr<std::uint8_t[]> upper;
    std::unique_ptr<std::uint32_t[]> decisions;
    std::vector<PathStep> steps;
};

// Rows of 32: where they lie, if they lie so, else a copy with zeros beyond the group's lanes.
template <typename T>
const T* rows_of(const T* from, const Group& group, std::size_t first, std::size_t rows, T* copy) {
    if (group.stride == kLaneGroup && group.in_row(first + rows - 1) == kLaneGroup)
        return from + first * kLaneGroup;
    for (std::size_t i = 0; i < rows; ++i) {
        const std::size_t n = group.in_row(first + i);
        std::copy_n(from + (first + i) * group.stride, n, copy + i * kLaneGroup);
        std::fill(copy + i * kLaneGroup + n, copy + (i + 1) * kLaneGroup, T{0});
    }
    return copy;
}

unsigned best_state(const std::uint16_t* metrics, unsigned states, std::size_t lane) noexcept {
    unsigned best = 0;
    for (unsigned state = 1; state < states; ++state) {
        if (metrics[state * kLaneGroup + lane] < metrics[best * kLaneGroup + lane]) best = state;
    }
    return best;
}

constexpr std::uint32_t first_lanes(std::size_t n) noexcept {
    return n >= kLaneGroup ? ~std::uint32_t{0} : (std::uint32_t{1} << n) - 1;
}

// Follows the best paths back: the parities and unions of each row. Bit j of a word belongs to lane j; with
// few states, a state is a word per bit of its number.
template <unsigned kBits>
void trace_planes(const Code& code, const Group& group, const std::uint32_t* decisions,
                  const unsigned* last_states, std::vector<PathStep>& steps) {
    std::array<std::uint32_t, kBits> state{};
    for (std::size_t lane = 0; lane < group.lanes; ++lane) {
        for (unsigned b = 0; b < kBits; ++b) state[b] |= (last_states[lane] >> b & 1) << lane;
    }
    const unsigned h0 = code.h0 >> 1;
    const unsigned h1 = code.h1 >> 1;
    for (std::size_t row = group.rows(); row-- > 0;) {
        const std::uint32_t* const of_row = decisions + (row << kBits);
        std::array<std::uint32_t, std::size_t{1} << kBits> odd;
        std::copy_n(of_row, odd.size(), odd.begin());
        for (unsigned b = 0; b < kBits; ++b) {
            for (unsigned i = 0; i < 1U << (kBits - 1 - b); ++i)
                odd[i] = odd[2 * i] ^ ((odd[2 * i] ^ odd[2 * i + 1]) & state[b]);
        }
        const std::uint32_t parity = odd[0];
        const std::uint32_t in_union = state[kBits - 1];
        steps[row] = {in_union, parity};
        const std::uint32_t active = first_lanes(group.in_row(row));
        for (unsigned b = kBits; b-- > 0;) {
            std::uint32_t before = in_union;
            if (b > 0) {
                before = state[b - 1];
                if ((h0 >> (b - 1) & 1) != 0) before ^= in_union;
                if ((h1 >> (b - 1) & 1) != 0) before ^= parity;
            }
            state[b] = (before & active) | (state[b] & ~active);
        }
    }
}

void trace_lanes(const Code& code, const Group& group, const std::uint32_t* decisions,
                 const unsigned* last_states, std::vector<PathStep>& steps) {
    unsigned states[kLaneGroup] = {};
    std::copy_n(last_states, group.lanes, states);
    for (std::size_t row = group.rows(); row-- > 0;) {
        const std::uint32_t* const of_row = decisions + row * code.states;
        std::uint32_t in_union = 0;
        std::uint32_t odd = 0;
        const std::size_t active = group.in_row(row);
        for (std::size_t lane = 0; lane < active; ++lane) {
            const unsigned parity = of_row[states[lane]] >> lane & 1;
            states[lane] = previous(code, states[lane], parity);
            in_union |= Code::union_of(states[lane]) << lane;
            odd |= parity << lane;
        }
        steps[row] = {in_union, odd};
    }
}

void trace_back(const Kernels& kernels, const Plan& plan, const Code& code, const Group& group,
                Scratch& scratch, const unsigned* last_states) {
    const std::uint32_t* const decisions = scratch.decisions.get();
    switch (code.states) {
        case 8:
            trace_planes<3>(code, group, decisions, last_states, scratch.steps);
            break;
        case 16:
            trace_planes<4>(code, group, decisions, last_states, scratch.steps);
            break;
        default:
            trace_lanes(code, group, decisions, last_states, scratch.steps);
    }
    alignas(64) std::int16_t levels[kLaneGroup];
    alignas(64) std::uint8_t unions[kLaneGroup];
    for (std::size_t row = 0; row < group.rows(); ++row) {
        kernels.levels(plan.alphabet, scratch.steps[row], scratch.below.get() + row * kLaneGroup,
                       scratch.upper.get() + row * kLaneGroup, levels, unions);
        const std::size_t n = group.in_row(row);
        std::copy_n(levels, n, group.levels + row * group.stride);
        if (group.unions != nullptr) std::copy_n(unions, n, group.unions + row * group.stride);
    }
}

void quantise_group(const Kernels& kernels, const Plan& plan, const Code& code, const Group& group,
                    Scratch& scratch) {
    std::uint16_t* metrics = scratch.metrics.data();
    std::uint16_t* spare = metrics + code.states * kLaneGroup;
    std::fill_n(metrics, code.states * kLaneGroup, kUnreached);
    std::fill_n(metrics, kLaneGroup, std::uint16_t{0});

    const std::size_t in_last = group.in_last_row();
    const std::size_t full = in_last == group.lanes ? group.rows() : group.rows() - 1;
    unsigned last_states[kLaneGroup] = {};
    alignas(64) float x_copy[kBlock * kLaneGroup];
    alignas(64) std::uint8_t context_copy[kBlock * kLaneGroup];
    alignas(64) static constexpr std::uint8_t kNoContexts[kBlock * kLaneGroup] = {};
    for (std::size_t first = 0; first < group.rows();) {
        // The last row comes alone if some lanes end before it.
        const std::size_t end = first < full ? full : group.rows();
        const std::size_t rows = std::min(kBlock - first % kBlock, end - first);
        const float* const x = rows_of(group.values, group, first, rows, x_copy);
        const std::uint8_t* const contexts = group.contexts == nullptr
                                                 ? kNoContexts
                                                 : rows_of(group.contexts, group, first, rows, context_copy);
        kernels.branch_metrics(plan, x, contexts, rows, scratch.branches.data());
        kernels.add_compare_select(plan, scratch.branches.data(), first, rows, metrics, spare,
                                   scratch.decisions.get() + first * code.states);
        for (std::size_t i = 0; i < rows; ++i) {
            const BranchRow& branch = scratch.branches[i];
            std::copy_n(branch.below, kLaneGroup, scratch.below.get() + (first + i) * kLaneGroup);
            std::copy_n(branch.upper, kLaneGroup, scratch.upper.get() + (first + i) * kLaneGroup);
        }
        if (rows % 2 != 0) std::swap(metrics, spare);
        first += rows;
        if (first == full) {
            for (std::size_t lane = 0; lane < group.lanes; ++lane)
                last_states[lane] = best_state(metrics, code.states, lane);
        }
    }
    if (full < group.rows()) {
        for (std::size_t lane = 0; lane < in_last; ++lane)
            last_states[lane] = best_state(metrics, code.states, lane);
    }
    trace_back(kernels, plan, code, group, scratch, last_states);
}

void check_contexts(std::span<const std::uint8_t> contexts, std::size_t n, std::size_t n_contexts) {
    if (contexts.empty()) return;
    if (contexts.size() != n) {
        throw ArgumentError("contexts has " + std::to_string(contexts.size()) + " elements, " +
                            std::to_string(n) + " are needed");
    }
    const std::uint8_t greatest = *std::max_element(contexts.begin(), contexts.end());
    if (greatest >= n_contexts) {
        throw ArgumentError("context " + std::to_string(greatest) + " has no tables: there are " +
                            std::to_string(n_contexts));
    }
}

void check_lanes(std::size_t lanes) {
    if (lanes < 1 || lanes > kMaxLanes) {
        throw ArgumentError("lanes is " + std::to_string(lanes) + ", not 1 to " + std::to_string(kMaxLanes));
    }
}

void check_step(float step) {
    // Its reciprocal must be normal too.
    if (!(step >= 0x1p-120F && step <= 0x1p120F)) {
        throw ArgumentError("step is " + shown(step) + ", not between 2^-120 and 2^120");
    }
}

void check_shape(const TableShape& shape) {
    if (shape.contexts < 1 || shape.contexts > kMaxContexts || shape.radius < 3 ||
        shape.radius > kMaxRadius) {
        throw ArgumentError("tables of " + std::to_string(shape.contexts) + " contexts and radius " +
                            std::to_string(shape.radius) + ": 1 to 256 and 3 to 16380 are possible");
    }
}

int place_of(float value, float scale, float limit) noexcept {
    float scaled = value * scale;
    scaled = scaled > -limit ? scaled : -limit;
    scaled = scaled < limit ? scaled : limit;
    return static_cast<int>(std::nearbyint(scaled * 256.0F));
}

// Walks the levels with their lanes' states: visit(i, union).
template <typename Visit>
void walk(std::span<const std::int16_t> levels, const Code& code, std::size_t lanes, Visit visit) {
    const std::size_t n = levels.size();
    const unsigned h0 = code.h0 >> 1;
    const unsigned h1 = code.h1 >> 1;
    std::array<unsigned, kMaxLanes> states{};
    for (std::size_t row = 0; row < n; row += lanes) {
        const std::size_t active = std::min(lanes, n - row);
        for (std::size_t lane = 0; lane < active; ++lane) {
            const std::size_t i = row + lane;
            const unsigned state = states[lane];
            const auto parity = static_cast<unsigned>(levels[i]) & 1;
            visit(i, Code::union_of(state));
            states[lane] = (state >> 1) ^ ((0 - (state & 1)) & h0) ^ ((0 - parity) & h1);
        }
    }
}

// log2 of a positive number in 1/256, rounded down: the fraction bit by bit, each the carry of a square.
std::uint32_t log2_in_256ths(std::uint64_t number) noexcept {
    const int exponent = 63 - std::countl_zero(number);
    std::uint64_t mantissa = exponent >= 31 ? number >> (exponent - 31) : number << (31 - exponent);
    auto result = static_cast<std::uint32_t>(exponent);
    for (int bit = 0; bit < 8; ++bit) {
        mantissa = mantissa * mantissa >> 31;
        result = result << 1 | static_cast<std::uint32_t>(mantissa >> 32);
        mantissa >>= mantissa >> 32;
    }
    return result;
}

}  // namespace

const Kernels& active_kernels() {
#if defined(__x86_64__)
    switch (active_isa()) {
        case Isa::avx512:
            return kAvx512Kernels;
        case Isa::avx2:
            return kAvx2Kernels;
        default:
            break;
    }
#elif defined(__aarch64__)
    if (active_isa() == Isa::neon) return kNeonKernels;
#endif
    return kScalarKernels;
}

const Code& code_of(unsigned states) {
    for (const Code& code : kCodes) {
        if (code.states == states) return code;
    }
    throw ArgumentError("a trellis has a power of two from 8 to 1024 states, not " + std::to_string(states));
}

std::vector<std::uint16_t> rates_of(std::span<const std::uint16_t> costs, std::uint32_t lambda) {
    std::vector<std::uint16_t> rates;
    rates.reserve(costs.size() + 1);  // kernels may load two at once
    for (const std::uint16_t cost : costs) {
        // 1/256 bit times step^2 / 65536 to step^2 / 512
        const std::uint64_t rate = (std::uint64_t{cost} * lambda + (1U << 14)) >> 15;
        rates.push_back(static_cast<std::uint16_t>(std::min<std::uint64_t>(rate, kMaxRate)));
    }
    return rates;
}

Quantiser::Quantiser(const Options& options, const TableShape& shape, std::span<const std::uint16_t> costs)
    : code_(code_of(options.states)), alphabet_(options.alphabet), shape_(shape) {
    check_shape(shape);
    if (costs.size() != shape.size()) {
        throw ArgumentError("costs has " + std::to_string(costs.size()) + " entries, " +
                            std::to_string(shape.size()) + " are needed");
    }
    rates_ = rates_of(costs, options.lambda);
}

void Quantiser::quantise(std::span<const float> values, float step, std::span<const std::uint8_t> contexts,
                         std::size_t lanes, std::span<std::int16_t> levels,
                         std::span<std::uint8_t> unions) const {
    check_step(step);
    check_lanes(lanes);
    check_contexts(contexts, values.size(), shape_.contexts);
    if (levels.size() != values.size()) {
        throw ArgumentError("levels has " + std::to_string(levels.size()) + " elements, values has " +
                            std::to_string(values.size()));
    }
    if (!unions.empty() && unions.size() != values.size())
        throw ArgumentError("unions has another size than values");
    if (values.empty()) return;
    const std::size_t rows = (values.size() + lanes - 1) / lanes;
    const std::size_t longest = std::min(kMaxPiece, kMaxPieceStates / code_.states);
    if (rows > longest) {
        throw ArgumentError(std::to_string(values.size()) + " values in " + std::to_string(lanes) +
                            " lanes: a lane holds at most " + std::to_string(longest));
    }
    const std::vector<Butterfly> butterflies = butterflies_of(code_);
    const Plan plan{alphabet_,
                    code_.states,
                    butterflies.data(),
                    rates_.data(),
                    static_cast<std::uint32_t>(shape_.width()),
                    shape_.radius,
                    1.0F / step,
                    limit_of(shape_.radius),
                    static_cast<unsigned>(std::min<std::size_t>(lanes, kLaneGroup))};
    Scratch scratch(code_, rows);
    for (std::size_t first = 0; first < std::min(lanes, values.size()); first += kLaneGroup) {
        const Group group{values.data() + first,
                          contexts.empty() ? nullptr : contexts.data() + first,
                          levels.data() + first,
                          unions.empty() ? nullptr : unions.data() + first,
                          values.size() - first,
                          lanes,
                          std::min<std::size_t>(lanes - first, kLaneGroup)};
        quantise_group(active_kernels(), plan, code_, group, scratch);
    }
}

void dequantise(std::span<const std::int16_t> levels, const Code& code, const Points& points, float step,
                std::span<const std::uint8_t> contexts, std::size_t lanes, std::span<float> values) {
    check_step(step);
    check_lanes(lanes);
    check_contexts(contexts, levels.size(), points.contexts);
    const auto width = 2 * static_cast<std::size_t>(points.reach) + 1;
    if (!points.offsets.empty() && (points.reach < 0 || points.reach > kMaxRadius ||
                                    points.offsets.size() != points.contexts * 2 * width)) {
        throw ArgumentError("offsets has " + std::to_string(points.offsets.size()) + " entries, not " +
                            std::to_string(points.contexts) + " x 2 x " + std::to_string(width));
    }
    if (values.size() != levels.size()) {
        throw ArgumentError("values has " + std::to_string(values.size()) + " elements, levels has " +
                            std::to_string(levels.size()));
    }
    const float unit = step / 256.0F;
    walk(levels, code, lanes, [&](std::size_t i, unsigned union_index) {
        const int level = levels[i];
        int point = 256 * point_of(points.alphabet, union_index, level);
        if (!points.offsets.empty() && level >= -points.reach && level <= points.reach) {
            const std::size_t context = contexts.empty() ? 0 : contexts[i];
            point += points.offsets[(context * 2 + union_index) * width +
                                    static_cast<std::size_t>(level + points.reach)];
        }
        values[i] = static_cast<float>(point) * unit;
    });
}

void accumulate(std::span<const float> values, std::span<const std::int16_t> levels, const Code& code,
                Alphabet alphabet, float step, std::span<const std::uint8_t> contexts, std::size_t lanes,
                const TableShape& shape, Statistics& into) {
    check_step(step);
    check_lanes(lanes);
    check_shape(shape);
    check_contexts(contexts, levels.size(), shape.contexts);
    if (values.size() != levels.size()) {
        throw ArgumentError("values has " + std::to_string(values.size()) + " elements, levels has " +
                            std::to_string(levels.size()));
    }
    for (const std::int16_t level : levels) {
        if (level < -shape.radius || level > shape.radius) {
            throw ArgumentError("level " + std::to_string(level) + " is beyond the radius " +
                                std::to_string(shape.radius));
        }
    }
    into.counts.resize(shape.size());
    into.errors.resize(shape.size());
    const float scale = 1.0F / step;
    const float limit = limit_of(shape.radius);
    walk(levels, code, lanes, [&](std::size_t i, unsigned union_index) {
        const std::size_t context = contexts.empty() ? 0 : contexts[i];
        const std::size_t entry =
            (context * 2 + union_index) * shape.width() + static_cast<std::size_t>(levels[i] + shape.radius);
        const std::int64_t error =
            place_of(values[i], scale, limit) - 256 * point_of(alphabet, union_index, levels[i]);
        ++into.counts[entry];
        into.errors[entry] += error;
        into.squared_error += static_cast<std::uint64_t>(error * error);
    });
}

std::vector<std::int16_t> centroids(const Statistics& statistics, const TableShape& shape, int reach) {
    check_shape(shape);
    if (reach < 0 || reach > shape.radius || statistics.counts.size() != shape.size() ||
        statistics.errors.size() != shape.size()) {
        throw ArgumentError("centroids up to level " + std::to_string(reach) +
                            " need statistics of their shape and radius");
    }
    constexpr std::uint64_t kEnough = 8;
    std::vector<std::int16_t> offsets;
    offsets.reserve(shape.contexts * 2 * (2 * static_cast<std::size_t>(reach) + 1));
    for (std::size_t table = 0; table < 2 * shape.contexts; ++table) {
        for (int level = -reach; level <= reach; ++level) {
            const std::size_t entry = table * shape.width() + static_cast<std::size_t>(level + shape.radius);
            const auto count = static_cast<std::int64_t>(statistics.counts[entry]);
            if (count < static_cast<std::int64_t>(kEnough)) {
                offsets.push_back(0);
                continue;
            }
            // Rounded to nearest, halves away from zero.
            const std::int64_t sum = statistics.errors[entry];
            const std::int64_t mean = (sum >= 0 ? sum + count / 2 : sum - count / 2) / count;
            offsets.push_back(
                static_cast<std::int16_t>(std::clamp<std::int64_t>(mean, INT16_MIN, INT16_MAX)));
        }
    }
    return offsets;
}

std::vector<std::uint16_t> costs_of(std::span<const std::uint64_t> counts, const TableShape& shape) {
    check_shape(shape);
    if (counts.size() != shape.size()) {
        throw ArgumentError("counts has " + std::to_string(counts.size()) + " entries, " +
                            std::to_string(shape.size()) + " are needed");
    }
    constexpr std::uint32_t kMostBits = 24 * 256;
    std::vector<std::uint16_t> costs;
    costs.reserve(counts.size());
    for (std::size_t table = 0; table < 2 * shape.contexts; ++table) {
        const auto of_table = counts.subspan(table * shape.width(), shape.width());
        std::uint64_t sum = shape.width();
        for (const std::uint64_t count : of_table) sum += 2 * count;
        for (const std::uint64_t count : of_table) {
            const std::uint32_t bits = log2_in_256ths(sum) - log2_in_256ths(2 * count + 1);
            costs.push_back(static_cast<std::uint16_t>(std::min(bits, kMostBits)));
        }
    }
    return costs;
}

}  // namespace nncodec::trellis
