#include "codecs/trellis_classes.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <numbers>
#include <numeric>
#include <optional>

#include "base/dispatch.hpp"
#include "codecs/trellis_scales.hpp"
#include "codecs/trellis_symbols.hpp"
#include "codecs/trellis_tallies.hpp"
#include "entropy/rans.hpp"
#include "quantize/scales.hpp"

namespace nncodec::trellis_codec {
namespace {

using trellis::Alphabet;
using trellis::FoldedCounts;
using trellis::kTablePoints;

constexpr std::size_t kSymbols = Statistics::kSymbols;
constexpr std::size_t kPoints = Statistics::kPoints;
constexpr std::size_t kFirstClasses = 48;
constexpr double kCentroidBits = 6;                    // of one centroid
constexpr double kHighRateSlope = 0.4620981203732968;  // 2 ln 2 / 3: -d(error)/d(bits) in steps squared
constexpr std::uint32_t kAbsentBits = 20 * 256;        // of a symbol without frequency, in 1/256
constexpr std::uint16_t kRareBits = 13 * 256;          // of one that did not occur, at least
constexpr double kAbsentSymbol = 12;                   // bits of a large level's symbol in parametric tables

struct Group {
    std::size_t first = 0;  // sum
    std::vector<std::uint64_t> counts = std::vector<std::uint64_t>(2 * kSymbols);
    FoldedCounts folded{};
    double large = 0;
    trellis::FoundParameters found;

    double bits() const noexcept { return found.bits + kAbsentSymbol * large; }
};

void fold(Group& group, Alphabet alphabet) {
    group.folded.fill(0);
    group.large = 0;
    for (unsigned u = 0; u < 2; ++u) {
        for (unsigned symbol = 0; symbol < kSymbols; ++symbol) {
            const auto count = static_cast<double>(group.counts[u * kSymbols + symbol]);
            if (count == 0) continue;
            const auto point = static_cast<std::size_t>(
                std::abs(trellis::point_of(alphabet, u, static_cast<int>(symbol) - trellis_symbols::kZero)));
            if (trellis_symbols::is_large(symbol) || point >= kTablePoints) {
                group.large += count;
            } else {
                group.folded[u * kTablePoints + point] += count;
            }
        }
    }
}

void fit(Group& group, Alphabet alphabet, const trellis::FoundParameters& near) {
    fold(group, alphabet);
    group.found = trellis::fit_parameters(group.folded, alphabet, near.scale, near.shape);
}

// What a Gaussian of the sum's mean magnitude has as scale: sqrt(pi) times as much, 6.6 eighths of an octave.
trellis::FoundParameters gaussian(std::size_t sum) {
    return {static_cast<unsigned>(std::clamp<std::size_t>(sum + 7, 40, 255)), trellis::kMaxShape, 0};
}

Group joined(const Group& a, const Group& b, Alphabet alphabet) {
    Group both;
    both.first = a.first;
    for (std::size_t i = 0; i < both.counts.size(); ++i) both.counts[i] = a.counts[i] + b.counts[i];
    fit(both, alphabet, a.found.bits > b.found.bits ? a.found : b.found);
    return both;
}

std::vector<Group> first_groups(const Statistics& statistics, Alphabet alphabet) {
    const auto occurs = [&](std::size_t sum) {
        if (!statistics.occurs(sum)) return false;
        const auto* const at = statistics.counts.data() + sum * 2 * kSymbols;
        return std::any_of(at, at + 2 * kSymbols, [](std::uint64_t c) { return c != 0; });
    };
    std::vector<std::size_t> sums;
    for (std::size_t sum = 0; sum < Statistics::kSums; ++sum) {
        if (occurs(sum)) sums.push_back(sum);
    }
    const std::size_t width =
        sums.empty() ? 1 : std::max<std::size_t>((sums.back() - sums.front()) / kFirstClasses + 1, 1);
    std::vector<Group> groups;
    for (const std::size_t sum : sums) {
        if (groups.empty() || sum / width != groups.back().first / width) {
            groups.emplace_back();
            groups.back().first = sum;
        }
        for (std::size_t i = 0; i < 2 * kSymbols; ++i)
            groups.back().counts[i] += statistics.counts[sum * 2 * kSymbols + i];
    }
    if (groups.empty()) groups.emplace_back();
    for (Group& group : groups) fit(group, alphabet, gaussian(group.first));
    return groups;
}

// Merges neighbours, the cheapest pair first, for as long as that saves bits.
std::vector<Group> merged(std::vector<Group> groups, Alphabet alphabet) {
    std::vector<Group> pairs;
    for (std::size_t i = 0; i + 1 < groups.size(); ++i)
        pairs.push_back(joined(groups[i], groups[i + 1], alphabet));
    while (groups.size() > 1) {
        std::size_t best = 0;
        double least = std::numeric_limits<double>::infinity();
        for (std::size_t i = 0; i < pairs.size(); ++i) {
            const double loss = pairs[i].bits() - groups[i].bits() - groups[i + 1].bits();
            if (loss < least) {
                least = loss;
                best = i;
            }
        }
        if (!(least < kClassBits)) break;
        const auto at = [best](std::size_t more) { return static_cast<std::ptrdiff_t>(best + more); };
        groups[best] = std::move(pairs[best]);
        groups.erase(groups.begin() + at(1));
        pairs.erase(pairs.begin() + at(0));
        if (best < pairs.size()) pairs[best] = joined(groups[best], groups[best + 1], alphabet);
        if (best > 0) pairs[best - 1] = joined(groups[best - 1], groups[best], alphabet);
    }
    return groups;
}

unsigned radius_of(std::span<const std::uint64_t> counts) noexcept {
    int radius = 1;
    for (std::size_t i = 0; i < counts.size(); ++i) {
        if (counts[i] != 0)
            radius = std::max(radius, std::abs(static_cast<int>(i % kSymbols) - trellis_symbols::kZero));
    }
    return static_cast<unsigned>(radius);
}

double cost_of(std::span<const std::uint64_t> counts, const rans::Frequencies& table) {
    return static_cast<double>(rans::cost_in_256ths(counts, table)) / 256;
}

struct Histograms {
    std::vector<std::vector<std::uint64_t>> counts;  // of each table's symbols
    std::vector<rans::Frequencies> tables;
    double bits = 0;        // of the streams
    double table_bits = 0;  // more than parameters

    double all_bits() const noexcept { return bits + table_bits; }
};

Histograms histograms_of(const std::vector<Group>& groups) {
    Histograms found;
    for (const Group& group : groups) {
        for (unsigned u = 0; u < 2; ++u) {
            std::vector<std::uint64_t> of(group.counts.begin() + u * kSymbols,
                                          group.counts.begin() + (u + 1) * kSymbols);
            if (std::all_of(of.begin(), of.end(), [](std::uint64_t c) { return c == 0; }))
                of[trellis_symbols::kZero] = 1;
            while (of.back() == 0) of.pop_back();
            found.counts.push_back(std::move(of));
        }
    }
    found.tables = rans::fit_tables(found.counts);
    ByteWriter out;
    rans::write_tables(out, found.tables);
    for (std::size_t t = 0; t < found.tables.size(); ++t)
        found.bits += cost_of(found.counts[t], found.tables[t]);
    // Parameters need not be sent.
    found.table_bits = 8 * static_cast<double>(out.size()) - 10.0 * static_cast<double>(groups.size());
    return found;
}

void choose_centroids(const Statistics& statistics, Model& model) {
    for (std::size_t c = 0; c < model.classes(); ++c) {
        const std::size_t first = c == 0 ? 0 : model.bounds[c - 1];
        const std::size_t end = c + 1 < model.classes() ? model.bounds[c] : Statistics::kSums;
        auto& of = model.centroids[c];
        of.assign(kMaxCentroids, 0);
        for (std::size_t point = 1; point < kPoints; ++point) {
            double weight = 0;
            double deviation = 0;
            for (std::size_t sum = first; sum < end; ++sum) {
                weight += statistics.weight[sum * kPoints + point];
                deviation += statistics.deviation[sum * kPoints + point];
            }
            if (!(weight > 0)) continue;
            const double offset = std::clamp(std::floor(64 * deviation / weight + 0.5), -63.0, 63.0);
            const double gain = offset / 64 * (2 * deviation - offset / 64 * weight);
            if (gain > kCentroidBits * kHighRateSlope) of[point - 1] = static_cast<std::int8_t>(offset);
        }
        while (!of.empty() && of.back() == 0) of.pop_back();
    }
}

// One for each class that the model has.
std::vector<Group> groups_of(const Statistics& statistics, const Model& model) {
    std::vector<Group> groups(model.classes());
    for (std::size_t c = 1; c < groups.size(); ++c) groups[c].first = model.bounds[c - 1];
    const auto class_of = model.class_of_sum();
    for (std::size_t sum = 0; sum < Statistics::kSums; ++sum) {
        if (!statistics.occurs(sum)) continue;
        auto& counts = groups[class_of[sum]].counts;
        for (std::size_t i = 0; i < 2 * kSymbols; ++i) counts[i] += statistics.counts[sum * 2 * kSymbols + i];
    }
    for (Group& group : groups) fit(group, model.alphabet, gaussian(group.first));
    return groups;
}

// Bounds (or those that the model has), parametric tables and centroids.
std::vector<Group> choose_groups(const Statistics& statistics, Model& model, bool centroids,
                                 bool keep_bounds) {
    std::vector<Group> groups = keep_bounds
                                    ? groups_of(statistics, model)
                                    : merged(first_groups(statistics, model.alphabet), model.alphabet);
    model.bounds.clear();
    model.parameters.clear();
    model.parametric = true;
    for (const Group& group : groups) {
        if (&group != groups.data()) model.bounds.push_back(static_cast<std::uint8_t>(group.first));
        model.parameters.push_back({static_cast<std::uint8_t>(group.found.scale),
                                    static_cast<std::uint8_t>(group.found.shape),
                                    static_cast<std::uint8_t>(radius_of(group.counts))});
    }
    make_tables(model);
    model.centroids.assign(groups.size(), {});
    if (centroids) choose_centroids(statistics, model);
    return groups;
}

double bits_of(const std::vector<Group>& groups, const Model& model) {
    double bits = 0;
    for (std::size_t c = 0; c < groups.size(); ++c) {
        for (unsigned u = 0; u < 2; ++u) {
            const auto of = std::span(groups[c].counts).subspan(u * kSymbols, kSymbols);
            bits += cost_of(of, model.tables[2 * c + u]);
        }
    }
    return bits;
}

// Prices of levels whose symbols have a frequency; others keep theirs, but are not cheap.
void set_costs(std::span<const rans::Frequencies> tables, int radius, std::vector<std::uint16_t>& costs) {
    std::size_t at = 0;
    for (const rans::Frequencies& table : tables) {
        for (int level = -radius; level <= radius; ++level, ++at) {
            const auto symbol = trellis_symbols::symbol_of(level);
            const std::uint32_t frequency = symbol.symbol < table.of.size() ? table.of[symbol.symbol] : 0;
            if (frequency == 0) {
                costs[at] = std::max(costs[at], kRareBits);
                continue;
            }
            const std::int64_t log2 = scales::fixed_log2(static_cast<double>(frequency));
            const auto bits = static_cast<std::uint32_t>(std::int64_t{table.prob_bits} * 256 - (log2 >> 8));
            costs[at] = static_cast<std::uint16_t>(bits + 256U * symbol.raw_bits);
        }
    }
}

// Bits of an occurrence for the room in the table that a symbol rarer than the least frequency takes from the
// others.
double surplus_bits(double count, double all, unsigned prob_bits) noexcept {
    const double least = std::ldexp(all, -static_cast<int>(prob_bits));
    return count < least ? (least - count) / std::max(count, 0.5) / std::numbers::ln2 : 0.0;
}

// Makes rare levels pay for that room too: among many elements the rarest are better rounded to others. Among
// fewer, levels that are all rare would be exchanged for each other, and none disappear.
void charge_rare(const Histograms& found, double share, int radius, std::span<std::uint16_t> costs) {
    constexpr double kMany = 1 << 20;  // elements of a table
    constexpr double kMost = 120;      // bits, which fit a cost
    const auto width = 2 * static_cast<std::size_t>(radius) + 1;
    for (std::size_t t = 0; t < found.tables.size(); ++t) {
        const auto& counts = found.counts[t];
        const auto& table = found.tables[t];
        const auto all = static_cast<double>(std::accumulate(counts.begin(), counts.end(), std::uint64_t{0}));
        if (all < kMany * share) continue;
        const auto of_table = costs.subspan(t * width, width);
        for (std::size_t i = 0; i < width; ++i) {
            const auto symbol = trellis_symbols::symbol_of(static_cast<int>(i) - radius).symbol;
            if (symbol < table.of.size() && table.of[symbol] > 1) continue;
            const double count = symbol < counts.size() ? static_cast<double>(counts[symbol]) : 0.0;
            const double price =
                static_cast<double>(of_table[i]) + 256 * surplus_bits(count, all, table.prob_bits);
            of_table[i] = static_cast<std::uint16_t>(std::min(price, 256 * kMost));
        }
    }
}

}  // namespace

void Statistics::add(const Statistics& other) {
    for (std::size_t sum = other.first; sum <= other.last && sum < kSums; ++sum) {
        for (std::size_t i = sum * 2 * kSymbols; i < (sum + 1) * 2 * kSymbols; ++i)
            counts[i] += other.counts[i];
        for (std::size_t i = sum * kPoints; i < (sum + 1) * kPoints; ++i) {
            weight[i] += other.weight[i];
            deviation[i] += other.deviation[i];
        }
    }
    first = std::min(first, other.first);
    last = std::max(last, other.last);
    square += other.square;
    raw_bits += other.raw_bits;
    elements += other.elements;
}

void Statistics::multiply(unsigned times) noexcept {
    const auto by = static_cast<double>(times);
    for (std::size_t sum = first; sum <= last && sum < kSums; ++sum) {
        for (std::size_t i = sum * 2 * kSymbols; i < (sum + 1) * 2 * kSymbols; ++i) counts[i] *= times;
        for (std::size_t i = sum * kPoints; i < (sum + 1) * kPoints; ++i) {
            weight[i] *= by;
            deviation[i] *= by;
        }
    }
    square *= by;
    raw_bits *= times;
    elements *= times;
}

void Statistics::clear() noexcept {
    for (std::size_t sum = first; sum <= last && sum < kSums; ++sum) {
        const auto from = static_cast<std::ptrdiff_t>(sum);
        constexpr auto kRow = static_cast<std::ptrdiff_t>(2 * kSymbols);
        constexpr auto kPointRow = static_cast<std::ptrdiff_t>(kPoints);
        std::fill_n(counts.begin() + from * kRow, kRow, 0);
        std::fill_n(weight.begin() + from * kPointRow, kPointRow, 0.0);
        std::fill_n(deviation.begin() + from * kPointRow, kPointRow, 0.0);
    }
    first = kSums;
    last = 0;
    square = 0;
    raw_bits = 0;
    elements = 0;
}

namespace {

// A count above, a sum of errors (in 1/4096 step, cut off at 64 steps) below: one addition an element.
constexpr unsigned kErrorBits = 42;
constexpr std::size_t kPerRun = std::size_t{1} << 20;  // so that neither can run over

// Adds what each (sum, union, symbol) got.
void add_tallies(std::span<const std::int64_t> tallies, const Model& model, std::size_t first_sum,
                 bool with_errors, Statistics& into) {
    for (std::size_t i = 0; i < tallies.size(); ++i) {
        const std::int64_t tally = tallies[i];
        if (tally == 0) continue;
        const std::int64_t count = (tally + (std::int64_t{1} << (kErrorBits - 1))) >> kErrorBits;
        const auto error = static_cast<double>(tally - (count << kErrorBits)) * 0x1p-12;
        const std::size_t sum = first_sum + i / (2 * kSymbols);
        const auto u = static_cast<unsigned>(i / kSymbols % 2);
        const auto symbol = static_cast<unsigned>(i % kSymbols);
        into.counts[first_sum * 2 * kSymbols + i] += static_cast<std::uint64_t>(count);
        into.raw_bits += static_cast<std::uint64_t>(count) * trellis_symbols::raw_bits_of(symbol);
        if (!with_errors || trellis_symbols::is_large(symbol)) continue;
        const int point =
            trellis::point_of(model.alphabet, u, static_cast<int>(symbol) - trellis_symbols::kZero);
        const auto size = static_cast<std::size_t>(std::abs(point));
        if (size >= kPoints) continue;
        into.weight[sum * kPoints + size] += static_cast<double>(count);
        into.deviation[sum * kPoints + size] += point < 0 ? -error : error;
    }
}

void collect_part(const Run& run, const Model& model, Statistics& into) {
    constexpr std::size_t kBlock = kTallyBlock;
    constexpr std::size_t kSide = kTallySide;
    const std::size_t n = run.levels.size();
    std::uint8_t least = 255;
    std::uint8_t most = 0;
    for (const std::uint8_t sum : run.sums) {
        least = std::min(least, sum);
        most = std::max(most, sum);
    }
    const std::size_t first = least;
    std::vector<std::int64_t> tallies((most - first + 1U) * 2 * kSymbols);
    const float scale = 1 / model.step;
    const bool weighted = !run.weights.empty();
    const bool plain = model.alphabet == trellis::Alphabet::plain;
    [[maybe_unused]] const bool vectors = plain && !weighted && active_isa() == Isa::avx512;
    std::array<double, kSide> squares{};
    TallyBlock block;
    auto& [index, error] = block;
    std::array<float, kBlock> exact;
    std::array<std::int16_t, kBlock> point;
    for (std::size_t at = 0; at < n; at += kBlock) {
        const std::size_t count = std::min(kBlock, n - at);
        const std::int16_t* const levels = run.levels.data() + at;
        const std::uint8_t* const unions = run.unions.data() + at;
        const std::uint8_t* const sums = run.sums.data() + at;
        const float* const values = run.values.data() + at;
#if defined(__x86_64__)
        if (vectors && count == kBlock &&
            tally_block_avx512({values, levels, unions, sums, static_cast<std::uint32_t>(first), scale},
                               block, squares.data())) {
            for (std::size_t i = 0; i < kBlock; ++i)
                tallies[index[i]] += (std::int64_t{1} << kErrorBits) + error[i];
            continue;
        }
#endif
        int greatest = 0;
        for (std::size_t i = 0; i < count; ++i) greatest = std::max(greatest, std::abs(int{levels[i]}));
        if (plain) {
            for (std::size_t i = 0; i < count; ++i)
                point[i] = static_cast<std::int16_t>(2 * levels[i] + unions[i]);
        } else {
            for (std::size_t i = 0; i < count; ++i)
                point[i] = static_cast<std::int16_t>(trellis::point_of(model.alphabet, unions[i], levels[i]));
        }
        // Loop by loop, as compilers make vectors of each.
        for (std::size_t i = 0; i < count; ++i) exact[i] = values[i] * scale - static_cast<float>(point[i]);
        for (std::size_t i = 0; i < count; ++i) {
            float cut = exact[i];
            cut = cut > -64.0F ? cut : -64.0F;
            cut = cut < 64.0F ? cut : 64.0F;
            error[i] = static_cast<std::int32_t>(cut * 4096.0F);
        }
        for (std::size_t i = 0; i < count; ++i) {
            index[i] = 512U * (sums[i] - static_cast<std::uint32_t>(first)) + 256U * unions[i] +
                       static_cast<std::uint32_t>(levels[i] + trellis_symbols::kZero);
        }
        if (greatest > trellis_symbols::kDirect) {
            for (std::size_t i = 0; i < count; ++i)
                index[i] += static_cast<std::uint32_t>(trellis_symbols::symbol_of(levels[i]).symbol -
                                                       (levels[i] + trellis_symbols::kZero));
        }
        if (weighted) {
            const float* const weights = run.weights.data() + at;
            for (std::size_t i = 0; i < count; ++i) {
                tallies[index[i]] += std::int64_t{1} << kErrorBits;
                const auto w = static_cast<double>(weights[i]);
                const auto e = static_cast<double>(exact[i]);
                squares[i % kSide] += w * e * e;
                const auto size = static_cast<std::size_t>(std::abs(int{point[i]}));
                if (size >= kPoints) continue;
                into.weight[sums[i] * kPoints + size] += w;
                into.deviation[sums[i] * kPoints + size] += point[i] < 0 ? -w * e : w * e;
            }
            continue;
        }
        for (std::size_t i = 0; i < count; ++i)
            tallies[index[i]] += (std::int64_t{1} << kErrorBits) + error[i];
        std::size_t i = 0;
        for (; i + kSide <= count; i += kSide) {
            for (std::size_t k = 0; k < kSide; ++k) {
                const auto e = static_cast<double>(exact[i + k]);
                squares[k] += e * e;
            }
        }
        for (std::size_t k = 0; i < count; ++i, ++k) {
            const auto e = static_cast<double>(exact[i]);
            squares[k] += e * e;
        }
    }
    for (const double square : squares) into.square += square;
    add_tallies(tallies, model, first, !weighted, into);
    into.first = std::min(into.first, first);
    into.last = std::max<std::size_t>(into.last, most);
    into.elements += n;
}

}  // namespace

void collect(const Run& run, const Model& model, Statistics& into) {
    for (std::size_t at = 0; at < run.levels.size(); at += kPerRun) {
        const std::size_t n = std::min(kPerRun, run.levels.size() - at);
        const auto weights = run.weights.empty() ? run.weights : run.weights.subspan(at, n);
        collect_part({run.values.subspan(at, n), run.levels.subspan(at, n), run.unions.subspan(at, n),
                      run.sums.subspan(at, n), weights},
                     model, into);
    }
}

double choose_tables(const Statistics& statistics, Model& model, bool centroids, bool keep_bounds) {
    const std::vector<Group> groups = choose_groups(statistics, model, centroids, keep_bounds);
    double bits = bits_of(groups, model);
    if (Histograms found = histograms_of(groups); found.all_bits() < bits) {
        bits = found.bits;
        model.parametric = false;
        model.parameters.clear();
        model.tables = std::move(found.tables);
    }
    return bits + static_cast<double>(statistics.raw_bits);
}

Prices choose_prices(const Statistics& statistics, double share, Model& model, bool centroids, int radius,
                     bool histograms) {
    constexpr double kByFar = 0.05;  // of what the tables take
    const std::vector<Group> groups = choose_groups(statistics, model, centroids, false);
    Prices prices{bits_of(groups, model), 0, costs_of(model, radius), true};
    if (histograms) {
        const Histograms found = histograms_of(groups);
        prices.only_parameters = found.all_bits() > prices.stream_bits + kByFar * found.table_bits;
        if (found.all_bits() < prices.stream_bits) {
            prices.stream_bits = found.bits;
            prices.table_bits = found.table_bits;
            set_costs(found.tables, radius, prices.costs);
            charge_rare(found, share, radius, prices.costs);
        }
    }
    prices.stream_bits += static_cast<double>(statistics.raw_bits);
    return prices;
}

double squared_error(const Statistics& statistics, const Model& model) {
    double square = statistics.square;
    const auto class_of = model.class_of_sum();
    for (std::size_t sum = 0; sum < Statistics::kSums; ++sum) {
        const auto& of = model.centroids[class_of[sum]];
        for (std::size_t point = 1; point <= of.size(); ++point) {
            const double offset = static_cast<double>(of[point - 1]) / 64;
            const std::size_t at = sum * kPoints + point;
            square -= offset * (2 * statistics.deviation[at] - offset * statistics.weight[at]);
        }
    }
    return std::max(square, 0.0);
}

std::vector<std::uint16_t> costs_of(const Model& model, int radius) {
    std::vector<std::uint16_t> costs;
    costs.reserve(model.tables.size() * static_cast<std::size_t>(2 * radius + 1));
    for (std::size_t t = 0; t < model.tables.size(); ++t) {
        for (int level = -radius; level <= radius; ++level) {
            const auto absent = kAbsentBits + 256U * trellis_symbols::symbol_of(level).raw_bits;
            costs.push_back(static_cast<std::uint16_t>(absent));
        }
    }
    set_costs(model.tables, radius, costs);
    return costs;
}

void guess_tables(std::span<const std::uint64_t> elements_of_sum, Model& model) {
    std::size_t first = 255;
    std::size_t last = 0;
    for (std::size_t sum = 0; sum < elements_of_sum.size(); ++sum) {
        if (elements_of_sum[sum] == 0) continue;
        first = std::min(first, sum);
        last = sum;
    }
    const std::size_t width = last <= first ? 1 : std::max<std::size_t>((last - first) / 32 + 1, 2);
    model.bounds.clear();
    model.parameters.clear();
    model.parametric = true;
    for (std::size_t sum = std::min(first, last); sum <= last; sum += width) {
        if (!model.parameters.empty()) model.bounds.push_back(static_cast<std::uint8_t>(sum));
        const auto near = gaussian(std::max<std::size_t>(sum + width / 2, 32));
        model.parameters.push_back({static_cast<std::uint8_t>(near.scale),
                                    static_cast<std::uint8_t>(near.shape), trellis::kMaxSymbolRadius});
    }
    make_tables(model);
    model.centroids.assign(model.classes(), {});
}

}  // namespace nncodec::trellis_codec
