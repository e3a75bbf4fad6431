#include "codecs/trellis_estimate.hpp"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstdint>
#include <numbers>
#include <utility>
#include <vector>

#include "codecs/trellis_classes.hpp"
#include "codecs/trellis_scales.hpp"
#include "codecs/trellis_side.hpp"
#include "quantize/scales.hpp"

namespace nncodec::trellis_codec {
namespace {

constexpr std::size_t kSample = std::size_t{1} << 16;  // elements
constexpr std::size_t kBlock = 1024;

// A scalar quantiser that costs as much as the trellis at its step, and the price of error there.
constexpr double kScalarStep = 2.15;       // in steps of the trellis
constexpr double kErrorPerBit = 0.37;      // in steps squared: 0.8 x 2 ln 2 / 3
constexpr double kFirstThreshold = 0.62;   // of the scalar step: from there on it is not zero
constexpr double kOtherThresholds = 0.55;  // the same beyond level l, of level l + 1
constexpr double kFine = 4;                // scales of more scalar steps: a bit an octave
constexpr int kEighthsBetween = 4;         // sums at which costs are worked out
constexpr int kMostClasses = 24;
constexpr double kDoubt = 0.5;  // bits, times the root of the number of elements

double log2_of(double x) noexcept {
    return static_cast<double>(scales::fixed_log2(x)) * 0x1p-16;
}

// Magnitudes over their scales: how many lie below a threshold, and their sums.
class Distribution {
  public:
    // x times the factor of its sum.
    void add(std::span<const float> x, std::span<const std::uint8_t> sums,
             std::span<const float, 256> factor) noexcept {
        std::array<std::uint16_t, kBlock> bins;
        for (std::size_t i = 0; i < x.size(); ++i) {
            const float z = std::min(std::abs(x[i]) * factor[sums[i]], 0x1p12F);
            const auto bits = static_cast<std::int32_t>(std::bit_cast<std::uint32_t>(z) >> kShift);
            bins[i] = static_cast<std::uint16_t>(std::clamp<std::int32_t>(bits - kFirst + 1, 0, kBins - 1));
        }
        std::size_t i = 0;
        for (; i + kTallies <= x.size(); i += kTallies) {
            for (std::size_t k = 0; k < kTallies; ++k) ++counts_[k][bins[i + k]];
        }
        for (; i < x.size(); ++i) ++counts_[0][bins[i]];
    }

    // Elements lie in the middle of their bins.
    void finish() noexcept {
        for (std::size_t i = 0; i < kBins; ++i) {
            double n = 0;
            for (const auto& tally : counts_) n += static_cast<double>(tally[i]);
            const double x = (edge(i) + edge(i + 1)) / 2;
            below_[i + 1] = {below_[i].count + n, below_[i].sum + n * x, below_[i].square + n * x * x};
            if (n > 0) last_ = i + 1;
        }
    }

    // An element's bits, and its squared error in bits, at a scale of so many scalar steps.
    double cost(double scale) const noexcept {
        const double finer = scale > kFine ? log2_of(scale / kFine) : 0.0;
        const double step = 1 / std::min(scale, kFine);
        const Totals all = below_[kBins];
        double bits = 0;
        Totals before = until(first_threshold(step) * step);
        double error = before.square;
        const auto count = [&](double n) { return n > 0 ? n * log2_of(all.count / n) : 0.0; };
        bits += count(before.count) + all.count - before.count;  // with signs
        for (double level = 1; before.count < all.count; level += 1) {
            const Totals next = until((level + kOtherThresholds) * step);
            const double n = next.count - before.count;
            if (n > 0) {
                const double sum = next.sum - before.sum;
                bits += count(n);
                error += std::max(next.square - before.square - sum * sum / n, 0.0);
            }
            before = next;
        }
        const double width = kScalarStep / step;
        return (bits + error * width * width / kErrorPerBit) / all.count + finer;
    }

  private:
    struct Totals {
        double count = 0;
        double sum = 0;
        double square = 0;
    };

    // Sixteen bins an octave, from 2^-10 to 2^10.
    static constexpr unsigned kShift = 19;
    static constexpr std::int32_t kFirst = (127 - 10) << 4;
    static constexpr std::size_t kBins = 20 * 16 + 2;
    static constexpr std::size_t kTallies = 4;  // neighbours often fall into the same bin

    static double edge(std::size_t bin) noexcept {  // lower
        if (bin == 0) return 0;
        return static_cast<double>(
            std::bit_cast<float>(static_cast<std::uint32_t>(bin - 1 + std::size_t{kFirst}) << kShift));
    }

    // In scalar steps: where a level saves as much error as its bits are worth, which the rarer the dearer.
    double first_threshold(double step) const noexcept {
        const double ones = until((1 + kOtherThresholds) * step).count;
        double threshold = kFirstThreshold;
        for (int round = 0; round < 2; ++round) {
            const double zeros = until(threshold * step).count;
            const double bits = 1 + log2_of((zeros + 1) / (std::max(ones - zeros, 0.0) + 1));
            threshold = std::clamp(0.5 + 0.5 * kErrorPerBit / (kScalarStep * kScalarStep) * bits, 0.5, 1.5);
        }
        return threshold;
    }

    Totals until(double threshold) const noexcept {
        const auto bits =
            static_cast<std::int32_t>(std::bit_cast<std::uint32_t>(static_cast<float>(threshold)) >> kShift);
        const auto bin = static_cast<std::size_t>(std::max(bits - kFirst + 1, 0));
        if (bin >= last_) return below_[kBins];
        const double low = edge(bin);
        const double part = (threshold - low) / (edge(bin + 1) - low);
        const Totals& a = below_[bin];
        const Totals& b = below_[bin + 1];
        return {a.count + part * (b.count - a.count), a.sum + part * (b.sum - a.sum),
                a.square + part * (b.square - a.square)};
    }

    std::array<std::array<std::uint32_t, kBins>, kTallies> counts_{};
    std::array<Totals, kBins + 1> below_{};  // [i + 1]: bin i and those before
    std::size_t last_ = 0;                   // one beyond the last bin that is not empty
};

Distribution distribution_of(const TensorSide& t, std::span<const float> values, double step) {
    std::array<float, 256> factor;
    for (std::size_t sum = 0; sum < factor.size(); ++sum) {
        factor[sum] = static_cast<float>(
            static_cast<double>(step_factor(kSumOfOneStep - static_cast<int>(sum))) / step);
    }
    Distribution found;
    std::array<std::uint8_t, kBlock> sums;
    const std::size_t blocks = (std::min(values.size(), kSample) + kBlock - 1) / kBlock;
    const std::size_t stride = values.size() / blocks;
    for (std::size_t b = 0; b < blocks; ++b) {
        const std::size_t spare = stride > kBlock ? stride - kBlock : 0;
        const std::size_t first =
            values.size() <= kSample ? b * kBlock : b * stride + (b * 7919) % (spare + 1);
        const auto x = values.subspan(first, std::min(kBlock, values.size() - first));
        const auto of = std::span(sums).first(x.size());
        t.sums(first, of);
        found.add(x, of, factor);
    }
    found.finish();
    return found;
}

// Calls visit(sum, elements) for the sums that occur.
template <typename Visit>
void for_each_sum(const TensorSide& t, Visit visit) {
    constexpr int kRange = 4096;
    std::vector<double> counts(2 * kRange);
    struct Bin {
        int scale;
        double count;
    };
    const auto bins_of = [&](auto each) {
        std::vector<int> seen;
        each([&](int scale) {
            double& count = counts[static_cast<std::size_t>(scale + kRange)];
            if (count == 0) seen.push_back(scale);
            count += 1;
        });
        std::sort(seen.begin(), seen.end());
        std::vector<Bin> bins;
        for (const int scale : seen)
            bins.push_back({scale, std::exchange(counts[static_cast<std::size_t>(scale + kRange)], 0.0)});
        return bins;
    };
    const std::vector<Bin> in_row = bins_of([&](auto add) {
        for (std::size_t c = 0; c < t.columns; ++c) {
            for (std::size_t p = 0; p < t.positions; ++p)
                add((t.scales[1].empty() ? 0 : t.scales[1][c]) + (t.scales[2].empty() ? 0 : t.scales[2][p]));
        }
    });
    const std::vector<Bin> rows = bins_of([&](auto add) {
        for (std::size_t r = 0; r < t.rows; ++r) add(t.scales[0].empty() ? 0 : t.scales[0][r]);
    });
    for (const Bin& row : rows) {
        for (const Bin& of_row : in_row)
            visit(std::clamp(t.offset + row.scale + of_row.scale, 0, 255), row.count * of_row.count);
    }
}

// With models of their own, although those of a record learn from all of its tensors: to tell what they will
// have learned would take all of them.
double bits_of_scales(const TensorSide& t) {
    if (!t.has_scales()) return 0;
    SideWriter out;
    for (unsigned axis = 0; axis < 3; ++axis) {
        if (!t.scales[axis].empty()) out.list(axis, std::span(t.scales[axis]), 1 << t.units[axis]);
    }
    return 8 * static_cast<double>(out.finish().size());
}

// Classes of sums, and what it costs that the elements of a class do not all have the same scale: log2 e bits
// for each and the variance of its natural logarithm, which falls with the square of the number of classes.
double bits_of_classes(std::span<const double> counts, double share) {
    double n = 0;
    double mean = 0;
    double square = 0;
    for (std::size_t sum = 0; sum < counts.size(); ++sum) {
        const auto x = static_cast<double>(sum) * std::numbers::ln2 / 8;
        n += counts[sum];
        mean += counts[sum] * x;
        square += counts[sum] * x * x;
    }
    const double spread = std::max(square - mean * mean / n, 0.0) * std::numbers::log2e;
    double least = spread;
    for (int classes = 2; classes <= kMostClasses; ++classes)
        least = std::min(least, (classes - 1) * kClassBits * share + spread / (classes * classes));
    return least;
}

}  // namespace

double estimated_cost(const TensorSide& t, std::span<const float> values, double step, double share) {
    if (values.empty()) return 0;
    const Distribution distribution = distribution_of(t, values, step);
    std::array<double, 256> counts{};
    for_each_sum(t, [&](int sum, double n) { counts[static_cast<std::size_t>(sum)] += n; });
    // Costs are smooth in the sum: some are worked out, the others lie on lines between them.
    const auto cost_at = [&](int sum) {
        return distribution.cost(static_cast<double>(step_factor(sum - kSumOfOneStep)) / kScalarStep);
    };
    double total = bits_of_scales(t) + bits_of_classes(counts, share);
    // Scales fit the elements that they are judged by, and the best of several estimates is likely to
    // flatter.
    if (t.has_scales()) total += kDoubt * std::sqrt(static_cast<double>(values.size()));
    int from = -1;
    double low = 0;
    double high = 0;
    for (int sum = 0; sum < 256; ++sum) {
        const double n = counts[static_cast<std::size_t>(sum)];
        if (n == 0) continue;
        const int begin = sum - sum % kEighthsBetween;
        if (begin != from) {
            low = from >= 0 && begin == from + kEighthsBetween ? high : cost_at(begin);
            high = cost_at(begin + kEighthsBetween);
            from = begin;
        }
        const double part = static_cast<double>(sum - begin) / kEighthsBetween;
        total += n * (low + part * (high - low));
    }
    return total;
}

}  // namespace nncodec::trellis_codec
