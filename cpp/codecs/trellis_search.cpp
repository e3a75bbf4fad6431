// How a study searches its sample: prices of levels and paths in turn.
#include <algorithm>
#include <array>
#include <cmath>
#include <numbers>
#include <optional>

#include "base/parallel.hpp"
#include "codecs/trellis_scales.hpp"
#include "codecs/trellis_study.hpp"
#include "quantize/class_order.hpp"
#include "quantize/scales.hpp"

namespace nncodec::trellis_codec {
namespace {

constexpr double kHighRateSlope = 0.4620981203732968;  // 2 ln 2 / 3: -d(error)/d(bits) in steps squared
constexpr double kHighRateFactor = 0.8;                // lambda over that, above a bit and a half a weight
constexpr double kLowRateFactor = 1.4;                 // below half a bit
constexpr double kGaussianFactor = 1.8;                // of a Gaussian below six tenths
constexpr double kBothZeroFactor = 1.0;                // the same of the alphabet with two zeros
constexpr double kBothZeroBelow = 1.3;                 // bits a weight: both alphabets are tried
constexpr std::size_t kSampleLanes = 32;
constexpr int kFullRounds = 2;  // the last turns of paths and tables, which look at all of a sample
constexpr std::size_t kThinFrom = std::size_t{1} << 16;  // elements: the turns before look at a part of more
constexpr std::size_t kThin = 4;
constexpr std::size_t kThinBlock = 512;

// Low rates want a finer grid and more weight on the bits, at the same slope; a Gaussian, which has few large
// values, more so.
double factor_at(double bits, trellis::Alphabet alphabet, bool gaussian) noexcept {
    const double t = std::clamp(1.5 - bits, 0.0, 1.0);
    const double low = alphabet == trellis::Alphabet::plain ? kLowRateFactor : kBothZeroFactor;
    const double factor = kHighRateFactor + t * (low - kHighRateFactor);
    if (!gaussian || alphabet != trellis::Alphabet::plain || bits >= 1) return factor;
    constexpr double kAtOneBit = kHighRateFactor + (kLowRateFactor - kHighRateFactor) / 2;
    return kAtOneBit + std::min((1 - bits) / 0.4, 1.0) * (kGaussianFactor - kAtOneBit);
}

// Two zeros serve best where one union has next to nothing else. Paths and tables alone seldom come to that.
void skew_costs(std::size_t classes, int radius, std::vector<std::uint16_t>& costs) {
    constexpr std::uint16_t kRare = 6 * 256;
    const auto width = static_cast<std::size_t>(2 * radius + 1);
    for (std::size_t c = 0; c < classes; ++c) {
        const auto of = std::span(costs).subspan((2 * c + 1) * width, width);
        for (std::uint16_t& cost : of) cost = static_cast<std::uint16_t>(cost + kRare);
        of[static_cast<std::size_t>(radius)] = 0;
    }
}

// Prices of a search at a step nearby, whose classes are the same, as far as they reach.
void take_costs(const Search& from, std::size_t tables, int radius, std::vector<std::uint16_t>& costs) {
    const int reach = std::min(radius, from.radius);
    for (std::size_t t = 0; t < tables; ++t) {
        const auto middle = [t](int r) {
            return static_cast<std::ptrdiff_t>(t) * (2 * r + 1) + static_cast<std::ptrdiff_t>(r);
        };
        std::copy_n(from.costs.begin() + middle(from.radius) - reach, 2 * reach + 1,
                    costs.begin() + middle(radius) - reach);
    }
}

// Sums count eighths of an octave, of which a class spans some: at steps so near the same tables serve the
// same elements, and outcomes change as steps do.
bool is_near(float a, float b) noexcept {
    constexpr float kNear = 1.13F;
    return a < b * kNear && b < a * kNear;
}

// Where a search ended.
struct Point {
    double bits = 0;
    double error = 0;
    double slope = 0;  // error per bit

    // At the same error. Each bit takes off the same share of what error is left: error / slope bits an
    // e-fold.
    bool is_better_than(const Point& other) const noexcept {
        if (!(error > 0 && other.error > 0)) return bits + error / slope < other.bits + other.error / slope;
        const double octave = std::numbers::ln2 * (error / slope + other.error / other.slope) / 2;
        const auto octaves = static_cast<double>(scales::fixed_log2(error / other.error)) * 0x1p-16;
        return bits + octave * octaves < other.bits;
    }
};

}  // namespace

void search_paths(const Search& search, std::span<const float> values, std::span<const std::uint8_t> sums,
                  std::span<std::int16_t> levels, std::span<std::uint8_t> unions) {
    std::vector<std::uint8_t> contexts;
    if (search.model.classes() > 1) {
        const auto class_of = search.model.class_of_sum();
        contexts.resize(sums.size());
        for (std::size_t i = 0; i < sums.size(); ++i) contexts[i] = class_of[sums[i]];
    }
    const trellis::Quantiser quantiser({search.model.code.states, search.model.alphabet, search.lambda},
                                       {search.model.classes(), search.radius}, search.costs);
    quantiser.quantise(values, search.model.step, contexts, search.model.lanes, levels, unions);
}

std::vector<std::uint64_t> Study::count_sums(double step, Model& model, std::vector<std::uint8_t>& sums,
                                             const Model* like) const {
    model.step = checked_step(step);
    set_offsets(model);
    if (like != nullptr && is_near(model.step, like->step)) {
        for (std::size_t t = 0; t < model.tensors.size(); ++t)
            model.tensors[t].offset = like->tensors[t].offset;
    }
    sums = sample_sums(model);
    std::vector<std::uint64_t> of_sum(Statistics::kSums);
    for (const std::uint8_t sum : sums) ++of_sum[sum];
    return of_sum;
}

Search Study::start(double step, double factor, trellis::Alphabet alphabet, const Search* from,
                    std::vector<std::uint8_t>& sums) const {
    Search search;
    Model& model = search.model;
    model = skeleton_;
    // As fine as levels can span, at most, if `step` is not finer itself.
    const double least = std::min(step, std::max(finest_step(), static_cast<double>(kLeastStep)));
    const std::vector<std::uint64_t> of_sum =
        count_sums(std::max(step * std::sqrt(kHighRateFactor / factor), least), model, sums,
                   from == nullptr ? nullptr : &from->model);
    search.lambda_steps = factor * kHighRateSlope;
    search.lambda = static_cast<std::uint32_t>(65536 * search.lambda_steps);
    search.radius = std::clamp(static_cast<int>(largest_ / static_cast<double>(model.step) / 2) + 4, 4,
                               trellis::kMaxRadius);
    model.lanes = kSampleLanes;
    model.alphabet = alphabet;
    guess_tables(of_sum, model);
    if (from != nullptr) {
        model.bounds = from->model.bounds;
        model.parameters = from->model.parameters;
        for (trellis::Parameters& p : model.parameters) {
            const unsigned more = p.radius + 4U;  // a finer step reaches farther
            p.radius = static_cast<std::uint8_t>(std::min(more, trellis::kMaxSymbolRadius));
        }
        model.centroids.assign(model.classes(), {});
    }
    make_tables(model);
    search.costs = costs_of(model, search.radius);
    search.only_parameters = from != nullptr && from->only_parameters;
    if (from != nullptr)
        take_costs(*from, model.tables.size(), search.radius, search.costs);
    else if (alphabet == trellis::Alphabet::both_zero)
        skew_costs(model.classes(), search.radius, search.costs);
    return search;
}

// How often values of the sample fall into the middle cell, over how often into one beside it. Of classes
// that take a bit or more: a Gaussian's zeros are many at low rates, too.
double Study::peak(double step, std::span<const std::uint8_t> sums) const {
    std::array<bool, Statistics::kSums> counted{};
    for (std::size_t sum = 0; sum < counted.size(); ++sum)
        counted[sum] = estimated_bits(static_cast<std::uint8_t>(sum)) >= 1;
    const auto half = static_cast<float>(step / 2);
    std::size_t middle = 0;
    std::size_t beside = 0;
    for (std::size_t i = 0; i < sums.size(); ++i) {
        if (!counted[sums[i]]) continue;
        const float size = std::abs(sample_[i]);
        middle += size < half ? 1U : 0U;
        beside += size >= half && size < 3 * half ? 1U : 0U;
    }
    return 2 * static_cast<double>(middle) / static_cast<double>(std::max<std::size_t>(beside, 1));
}

// Two zeros pay at any rate where zeros are many, one where they are not; between, the cheaper has to be
// found.
Study::Alphabets Study::alphabets(double step, double bits, std::span<const std::uint8_t> sums) const {
    constexpr double kRound = 1.9;
    constexpr double kPeaked = 4;
    if (options_.alphabet == TrellisAlphabet::plain) return {.plain = true, .both_zero = false};
    if (options_.alphabet == TrellisAlphabet::both_zero) return {.plain = false, .both_zero = true};
    if (bits <= kBothZeroBelow) return {};
    const double ratio = peak(step, sums);
    const bool round = ratio < kPeaked;
    const bool peaked = kRound < ratio;
    return {.plain = round, .both_zero = peaked};
}

// Whether the tables of one step are of use at another, where a weight takes about so many bits. At low rates
// they are not: paths that keep to zeros make tables that make such paths. What began above may go on a
// little below, so that trials on both sides of the limit agree.
bool Study::serves(const Search& from, double bits) {
    constexpr double kGoesOn = 0.3;
    constexpr double kApart = 0.5;
    if (!(bits > (from.begun_bits > kBothZeroBelow ? kBothZeroBelow - kGoesOn : kBothZeroBelow)))
        return false;
    return from.model.alphabet == trellis::Alphabet::plain || std::abs(bits - from.begun_bits) < kApart;
}

Study::Outcome Study::prepare(double step, const Search* from, int rounds, std::size_t threads) const {
    Model first = skeleton_;
    std::vector<std::uint8_t> sums;
    const std::vector<std::uint64_t> of_sum = count_sums(step, first, sums);
    double bits = 0;
    for (std::size_t sum = 0; sum < of_sum.size(); ++sum)
        bits += static_cast<double>(of_sum[sum]) * estimated_bits(static_cast<std::uint8_t>(sum));
    bits /= static_cast<double>(std::max<std::size_t>(sums.size(), 1));
    if (from != nullptr && !serves(*from, bits)) {
        from = nullptr;
        rounds = kRounds;
    }

    const double share =
        static_cast<double>(sums.size()) / static_cast<double>(std::max<std::size_t>(elements(), 1));
    const auto take_prices = [&](const Statistics& statistics, Search& search, bool histograms) {
        Prices prices =
            choose_prices(statistics, share, search.model, options_.centroids, search.radius, histograms);
        search.stream_bits = prices.stream_bits;
        search.table_bits = prices.table_bits;
        search.costs = std::move(prices.costs);
        if (histograms) search.only_parameters = prices.only_parameters;
    };
    const Alphabets tried = from != nullptr ? Alphabets{} : alphabets(step, bits, sums);
    std::optional<Outcome> best;
    Point least;
    for (const auto alphabet : {trellis::Alphabet::plain, trellis::Alphabet::both_zero}) {
        if (from != nullptr ? alphabet != from->model.alphabet : !tried.has(alphabet)) continue;
        std::vector<std::uint8_t> of_alphabet;  // sums at its step
        const Search begin = start(step, options_.strength * factor_at(bits, alphabet, gaussian_), alphabet,
                                   from, of_alphabet);
        Sample sample = rounds > 1 ? ordered(of_alphabet, nullptr) : Sample{};
        Outcome one{begin, begin, {}, {}, 0};
        one.used.begun_bits = one.after.begun_bits = from != nullptr ? from->begun_bits : bits;
        std::vector<std::int16_t> levels;
        // At low rates a path's equilibrium is that of all elements.
        const bool thin = sample.values.size() >= kThinFrom && rounds > kFullRounds && bits > kBothZeroBelow;
        const Sample part = thin ? thinned(sample) : Sample{};
        for (int round = 0; round < rounds; ++round) {
            one.used = one.after;
            if (thin && round + kFullRounds < rounds) {
                search_sample(one.used, part, threads, one.statistics);
                one.statistics.multiply(kThin);
                take_prices(one.statistics, one.after, false);
                continue;
            }
            if (round + 1 == rounds) {  // what a plan at this step will do
                const SumMap class_of = one.used.model.class_of_sum();
                sample = ordered(of_alphabet, &class_of);
                if (is_whole())
                    one.used.model.lanes =
                        lanes_for(round > 0 ? one.used.stream_bits : bits * static_cast<double>(elements()));
            }
            const bool last = round + 1 == rounds;
            search_sample(one.used, sample, threads, one.statistics, last && is_whole() ? &levels : nullptr);
            // After a single turn nothing starts from these prices.
            if (rounds > 1) take_prices(one.statistics, one.after, !one.after.only_parameters);
        }
        // What a plan will make of these paths: tables for the classes that gave them their order.
        one.made = one.used.model;
        one.made_bits = choose_tables(one.statistics, one.made, options_.centroids, true);
        one.used.stream_bits = one.made_bits;
        const double error = squared_error(one.statistics, one.made);
        if (!levels.empty())
            one.used.path =
                std::make_shared<const Path>(Path{std::move(levels), one.made, one.made_bits, error});
        const double width =
            static_cast<double>(one.after.model.step) * static_cast<double>(one.after.model.step);
        const Point point{one.made_bits + share * one.after.table_bits, error * width,
                          one.after.lambda_steps * width};
        if (best && !point.is_better_than(least)) continue;
        least = point;
        best = std::move(one);
    }
    return std::move(*best);
}

// By class; without classes by sum, which is about the same whatever they become.
Study::Sample Study::ordered(std::span<const std::uint8_t> sums, const SumMap* class_of) const {
    std::vector<std::uint8_t> keys(sums.begin(), sums.end());
    for (std::uint8_t& key : keys) key = class_of == nullptr ? key : (*class_of)[key];
    class_order::Places next = class_order::places_of(keys);
    const bool weighted = !sample_weights_.empty();
    Sample sample;
    sample.values.resize(keys.size());
    sample.sums.resize(keys.size());
    if (weighted) sample.weights.resize(keys.size());
    for (std::size_t i = 0; i < keys.size(); ++i) {
        const std::size_t at = next[keys[i]]++;
        sample.values[at] = sample_[i];
        sample.sums[at] = sums[i];
        if (weighted) sample.weights[at] = sample_weights_[i];
    }
    return sample;
}

// A block of every four: of each class about a quarter.
Study::Sample Study::thinned(const Sample& sample) {
    Sample part;
    const auto take = [](const auto& from, auto& to) {
        for (std::size_t at = 0; at < from.size(); at += kThin * kThinBlock) {
            const auto begin = from.begin() + static_cast<std::ptrdiff_t>(at);
            to.insert(to.end(), begin,
                      begin + static_cast<std::ptrdiff_t>(std::min(kThinBlock, from.size() - at)));
        }
    };
    take(sample.values, part.values);
    take(sample.sums, part.sums);
    take(sample.weights, part.weights);
    return part;
}

void Study::search_sample(const Search& search, const Sample& sample, std::size_t threads, Statistics& into,
                          std::vector<std::int16_t>* kept_levels) const {
    const std::size_t n = sample.values.size();
    const std::size_t longest = is_whole() ? std::max<std::size_t>(n, 1) : std::size_t{1} << 18;
    const auto of_run = [&](std::size_t run, Statistics& found) {
        const std::size_t at = run * longest;
        const std::size_t count = std::min(longest, n - at);
        const auto values = std::span(sample.values).subspan(at, count);
        const auto sums = std::span(sample.sums).subspan(at, count);
        thread_local std::vector<std::int16_t> levels;
        thread_local std::vector<std::uint8_t> unions;
        levels.resize(count);
        unions.resize(count);
        search_paths(search, values, sums, levels, unions);
        const auto weights =
            sample.weights.empty() ? std::span<const float>{} : std::span(sample.weights).subspan(at, count);
        collect({values, levels, unions, sums, weights}, search.model, found);
        if (kept_levels != nullptr) kept_levels->assign(levels.begin(), levels.end());
    };
    into.clear();
    const std::size_t runs = (n + longest - 1) / longest;
    if (runs == 1) return of_run(0, into);
    thread_local std::vector<Statistics> kept;  // pages that need not be asked for again
    std::vector<Statistics>& of = kept;
    if (of.size() < runs) of.resize(runs);
    for (std::size_t run = 0; run < runs; ++run) of[run].clear();
    parallel_for(runs, threads, [&](std::size_t run) { of_run(run, of[run]); });
    for (std::size_t run = 0; run < runs; ++run) into.add(of[run]);
}

}  // namespace nncodec::trellis_codec
