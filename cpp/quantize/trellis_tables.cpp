#include "quantize/trellis_tables.hpp"

#include <algorithm>
#include <atomic>
#include <bit>
#include <cstdlib>
#include <limits>
#include <memory>

#include "quantize/scales.hpp"

namespace nncodec::trellis {
namespace {

constexpr int kZero = 128;
constexpr unsigned kDirect = 63;
constexpr std::uint32_t kTotal = 1U << rans::kDefaultProbBits;
constexpr std::int64_t kOne = 1 << 16;        // of a logarithm
constexpr std::int64_t kLog2OfLog2E = 34653;  // log2(log2(e))
constexpr std::int64_t kMostBits = 40;        // beyond, a density is 0

// 2^30 * 2^(2^-i) for i = 1 .. 16
constexpr std::array<std::uint32_t, 16> kPowers{
    1518500250, 1276901417, 1170923762, 1121280436, 1097253708, 1085434106, 1079572136, 1076653033,
    1075196443, 1074468888, 1074105294, 1073923544, 1073832680, 1073787251, 1073764537, 1073753181};

// 2^30 * 2^(fraction / 65536)
std::uint64_t exp2_of(std::uint32_t fraction) noexcept {
    std::uint64_t m = std::uint64_t{1} << 30;
    for (unsigned i = 0; i < 16; ++i) {
        if ((fraction >> (15 - i) & 1) != 0) m = m * kPowers[i] >> 30;
    }
    return m;
}

std::uint64_t shifted(std::uint64_t value, std::int64_t left) noexcept {
    if (left >= 0) return value << left;
    return left <= -64 ? 0 : value >> -left;
}

// 2^40 times the density (1 at zero), `place` eighths of a step from zero.
std::uint64_t density(std::uint32_t place, unsigned scale, unsigned shape) noexcept {
    const std::int64_t log2 = scales::fixed_log2(static_cast<double>(place)) - 3 * kOne -
                              8192 * (static_cast<std::int64_t>(scale) - 64);
    const std::int64_t z = (static_cast<std::int64_t>(shape + 2) * log2 >> 3) + kLog2OfLog2E;
    if (z >= 6 * kOne) return 0;
    const std::uint64_t bits = shifted(exp2_of(static_cast<std::uint32_t>(z & 0xFFFF)), (z >> 16) - 14);
    if (bits >= static_cast<std::uint64_t>(kMostBits * kOne)) return 0;
    const std::int64_t y = -static_cast<std::int64_t>(bits);
    return shifted(exp2_of(static_cast<std::uint32_t>(y & 0xFFFF)), (y >> 16) + 10);
}

// Bits of the points of one scale and shape: union 0, union 1 of each alphabet.
struct PointBits {
    PointWeights weights{};
    std::array<std::array<float, kTablePoints>, 3> of{};
    bool possible = false;
};

// A table seldom has more than 33 symbols.
constexpr double kShared = kTotal - 33;

// A point's cell reaches seven eighths of a step to both sides, in odd eighths; those of negative numbers are
// those of positive ones.
PointWeights make_weights(unsigned scale, unsigned shape) noexcept {
    std::array<std::uint64_t, kTablePoints + 1> half{};  // [i]: of the four places 8 i + 1, 3, 5, 7
    for (std::size_t i = 0; i <= kTablePoints; ++i) {
        for (unsigned k = 1; k < 8; k += 2)
            half[i] += density(static_cast<std::uint32_t>(8 * i + k), scale, shape);
        if (half[i] == 0) break;  // those farther out are 0, too
    }
    PointWeights weights{};
    weights[0] = 2 * half[0];
    for (std::size_t point = 1; point < kTablePoints; ++point) weights[point] = half[point - 1] + half[point];
    return weights;
}

PointBits make_point_bits(unsigned scale, unsigned shape) {
    PointBits bits;
    bits.weights = make_weights(scale, shape);
    const PointWeights& weights = bits.weights;
    bits.possible = true;
    for (unsigned kind = 0; kind < 3; ++kind) {
        const bool even = kind == 0;
        double sum = even || kind == 2 ? static_cast<double>(weights[0]) : 0.0;
        for (unsigned p = even ? 2 : 1; p < kTablePoints; p += 2) sum += 2 * static_cast<double>(weights[p]);
        bits.possible = bits.possible && sum > 0;
        if (!bits.possible) break;
        for (unsigned p = 0; p < kTablePoints; ++p) {
            const double frequency = 1 + static_cast<double>(weights[p]) * kShared / sum;
            bits.of[kind][p] =
                static_cast<float>(12 - static_cast<double>(scales::fixed_log2(frequency)) * 0x1p-16);
        }
    }
    return bits;
}

// Made when they are first asked for, and kept.
const PointBits& point_bits(unsigned scale, unsigned shape) {
    static std::array<std::atomic<const PointBits*>, 256 * (kMaxShape + 1)> all{};
    auto& place = all[scale * (kMaxShape + 1) + shape];
    if (const PointBits* const made = place.load(std::memory_order_acquire)) return *made;
    auto fresh = std::make_unique<const PointBits>(make_point_bits(scale, shape));
    const PointBits* expected = nullptr;
    if (place.compare_exchange_strong(expected, fresh.get(), std::memory_order_acq_rel))
        return *fresh.release();
    return *expected;
}

}  // namespace

const PointWeights& point_weights(unsigned scale, unsigned shape) {
    return point_bits(scale, shape).weights;
}

rans::Frequencies parametric_table(std::span<const std::uint64_t, kTablePoints> weights, unsigned radius,
                                   Alphabet alphabet, unsigned union_index) {
    const auto n = static_cast<int>(radius);
    std::vector<std::uint64_t> of(2 * radius + 1);
    const int direct = std::min(n, static_cast<int>(kDirect));
    std::uint64_t sum = 0;
    for (int level = -direct; level <= direct; ++level) {
        const auto point = static_cast<unsigned>(std::abs(point_of(alphabet, union_index, level)));
        of[static_cast<std::size_t>(level + n)] = weights[point];
        sum += weights[point];
    }
    rans::Frequencies table;
    if (sum == 0) return table;
    table.of.resize(static_cast<std::size_t>(kZero + n) + 1);
    const std::uint32_t shared = kTotal - static_cast<std::uint32_t>(of.size());
    std::uint32_t left = shared;
    for (int level = -n; level <= n; ++level) {
        const auto part = static_cast<std::uint32_t>(of[static_cast<std::size_t>(level + n)] * shared / sum);
        table.of[static_cast<std::size_t>(kZero + level)] = 1 + part;
        left -= part;
    }
    table.of[kZero] += left;
    return table;
}

rans::Frequencies parametric_table(const Parameters& parameters, Alphabet alphabet, unsigned union_index) {
    return parametric_table(point_weights(parameters.scale, parameters.shape), parameters.radius, alphabet,
                            union_index);
}

double folded_cost(const FoldedCounts& counts, Alphabet alphabet, unsigned scale, unsigned shape) {
    const PointBits& bits = point_bits(scale, shape);
    if (!bits.possible) return std::numeric_limits<double>::infinity();
    const auto& first = bits.of[0];
    const auto& second = bits.of[alphabet == Alphabet::plain ? 1 : 2];
    double sum = 0;
    for (std::size_t p = 0; p < kTablePoints; ++p) {
        sum += counts[p] * static_cast<double>(first[p]) +
               counts[kTablePoints + p] * static_cast<double>(second[p]);
    }
    return sum;
}

FoundParameters fit_parameters(const FoldedCounts& counts, Alphabet alphabet, unsigned scale,
                               unsigned shape) {
    FoundParameters best{scale, shape, folded_cost(counts, alphabet, scale, shape)};
    const auto try_at = [&](int by_scale, int by_shape) {
        const int s = static_cast<int>(best.scale) + by_scale;
        const int b = static_cast<int>(best.shape) + by_shape;
        if (s < 0 || s > 255 || b < 0 || b > static_cast<int>(kMaxShape)) return false;
        const double bits = folded_cost(counts, alphabet, static_cast<unsigned>(s), static_cast<unsigned>(b));
        if (!(bits < best.bits)) return false;
        best = {static_cast<unsigned>(s), static_cast<unsigned>(b), bits};
        return true;
    };
    // Scale and shape in turn and together (a broader shape goes with a larger scale), by strides that halve.
    for (int stride = 4; stride > 0; stride /= 2) {
        const int side = (stride + 1) / 2;
        for (int round = 0; round < 64; ++round) {
            const bool scaled = try_at(stride, 0) || try_at(-stride, 0);
            const bool shaped = try_at(0, side) || try_at(0, -side);
            const bool both = try_at(stride, side) || try_at(-stride, -side);
            if (!scaled && !shaped && !both) break;
        }
    }
    return best;
}

}  // namespace nncodec::trellis
