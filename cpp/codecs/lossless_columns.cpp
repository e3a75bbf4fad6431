// Column classes: the input channels of a convolution often have scales of their own, as its output channels
// (rows) do. Decoding is slower with them, so that a long tensor must gain much.
#include <algorithm>
#include <numeric>

#include "codecs/code_length.hpp"
#include "codecs/lossless_encoder.hpp"

namespace nncodec::lossless {
namespace {

constexpr std::size_t kMostColumns = std::size_t{1} << 14;
constexpr std::size_t kFewestRows = 16;
constexpr std::size_t kRowsTried = 32;  // a sample of so many rows says whether looking at all is worth it
constexpr std::size_t kRowsLookedAt = 1024;
constexpr std::size_t kTried = 8;         // classes of the trial
constexpr std::size_t kFinest = 16;       // classes before similar ones are merged
constexpr std::uint64_t kMapBits = 4;     // what a column's class costs
constexpr std::uint64_t kSymbolBits = 7;  // what a symbol of a table costs
constexpr std::uint64_t kRowClasses = 6;  // there are about so many tables for each class of columns
constexpr std::uint64_t kLeastGain = (std::uint64_t{1} << kLogBits) / 16;  // bits per number of a long tensor
constexpr std::int32_t kMiddle = 128;

// Symbols of some rows relative to the mean of their row, plus kMiddle: what is left when rows have classes.
struct Rows {
    std::size_t columns;
    std::vector<std::uint8_t> symbols;

    std::size_t count() const noexcept { return symbols.size() / columns; }
    std::span<const std::uint8_t> row(std::size_t r) const noexcept {
        return std::span(symbols).subspan(r * columns, columns);
    }
};

Rows relative_rows(const Plan& plan, std::size_t most) {
    const std::size_t columns = plan.model.columns;
    const std::size_t rows = plan.numbers / columns;
    const std::size_t count = std::min(rows, most);
    Rows result{columns, std::vector<std::uint8_t>(count * columns)};
    for (std::size_t r = 0; r < count; ++r) {
        // All of them, or such that no period of the data is met.
        const std::uint64_t drawn = (r * 0x9E3779B97F4A7C15U >> 32) * rows >> 32;
        const std::size_t row = count == rows ? r : static_cast<std::size_t>(drawn);
        const ByteView numbers =
            plan.data.subspan(row * columns * plan.format.bytes, columns * plan.format.bytes);
        const std::span<std::uint8_t> symbols = std::span(result.symbols).subspan(r * columns, columns);
        make_symbols(plan, numbers, symbols);
        const std::uint64_t sum = std::accumulate(symbols.begin(), symbols.end(), std::uint64_t{0});
        const auto shift = kMiddle - static_cast<std::int32_t>((sum + columns / 2) / columns);
        for (std::uint8_t& s : symbols)
            s = static_cast<std::uint8_t>(std::clamp(s + shift, std::int32_t{0}, std::int32_t{255}));
    }
    return result;
}

// Columns in classes of equal size by their mean over every `stride`-th row.
std::vector<std::uint8_t> by_mean(const Rows& rows, std::size_t stride, std::size_t classes) {
    std::vector<std::uint32_t> sums(rows.columns);
    for (std::size_t r = 0; r < rows.count(); r += stride) {
        const auto row = rows.row(r);
        for (std::size_t c = 0; c < rows.columns; ++c) sums[c] += row[c];
    }
    std::vector<std::uint32_t> order(rows.columns);
    std::iota(order.begin(), order.end(), 0U);
    std::stable_sort(order.begin(), order.end(),
                     [&](std::uint32_t a, std::uint32_t b) { return sums[a] < sums[b]; });
    std::vector<std::uint8_t> result(rows.columns);
    for (std::size_t i = 0; i < order.size(); ++i)
        result[order[i]] = static_cast<std::uint8_t>(i * classes / order.size());
    return result;
}

using Counts = std::array<std::uint64_t, 256>;

// Per class, over the rows first, first + stride ...
std::vector<Counts> count(const Rows& rows, std::size_t first, std::size_t stride,
                          std::span<const std::uint8_t> classes, std::size_t n_classes) {
    std::vector<Counts> result(n_classes);
    for (std::size_t r = first; r < rows.count(); r += stride) {
        const auto row = rows.row(r);
        for (std::size_t c = 0; c < rows.columns; ++c) ++result[classes[c]][row[c]];
    }
    return result;
}

std::uint64_t used(const Counts& counts) noexcept {
    return static_cast<std::uint64_t>(
        std::count_if(counts.begin(), counts.end(), [](std::uint64_t n) { return n != 0; }));
}

// Bits per number that classes would save, corrected for the number of values (Miller & Madow: a histogram
// looks better than its source by about 0.72 bits a value). Classes come from the even rows and are judged on
// the odd ones, for by chance alone any columns differ.
std::int64_t gain(const Rows& rows) {
    const std::vector<Counts> counts = count(rows, 1, 2, by_mean(rows, 2, kTried), kTried);
    Counts all{};
    std::int64_t apart = 0;
    for (const Counts& one : counts) {
        for (std::size_t s = 0; s < all.size(); ++s) all[s] += one[s];
        apart += static_cast<std::int64_t>(code_length<std::uint64_t>(one) + used(one) * 47'000);
    }
    const auto together = static_cast<std::int64_t>(code_length<std::uint64_t>(all) + used(all) * 47'000);
    return (together - apart) / static_cast<std::int64_t>(rows.count() / 2 * rows.columns);
}

// Neighbours are merged while that saves more tables than it costs bits.
std::size_t merge(std::vector<Counts>& counts, std::uint64_t numbers_per_count,
                  std::vector<std::uint8_t>& map) {
    const auto cost = [&](const Counts& one) {
        return code_length<std::uint64_t>(one) * numbers_per_count +
               (kRowClasses * kSymbolBits * used(one) << kLogBits);
    };
    map.resize(counts.size());
    std::iota(map.begin(), map.end(), std::uint8_t{0});
    while (counts.size() > 1) {
        std::size_t best = 0;
        std::uint64_t most = 0;
        Counts merged{};
        for (std::size_t i = 0; i + 1 < counts.size(); ++i) {
            Counts both = counts[i];
            for (std::size_t s = 0; s < both.size(); ++s) both[s] += counts[i + 1][s];
            const std::uint64_t apart = cost(counts[i]) + cost(counts[i + 1]);
            const std::uint64_t together = cost(both);
            if (together >= apart || apart - together <= most) continue;
            most = apart - together;
            best = i;
            merged = both;
        }
        if (most == 0) break;
        counts[best] = merged;
        counts.erase(counts.begin() + static_cast<std::ptrdiff_t>(best) + 1);
        for (std::uint8_t& c : map) c = static_cast<std::uint8_t>(c > best ? c - 1 : c);
    }
    return counts.size();
}

}  // namespace

void choose_columns(Plan& plan) {
    Model& model = plan.model;
    if (model.kind != Kind::floats || model.map.sparse) return;
    if (model.columns < kMinClassColumns || model.columns > kMostColumns) return;
    if (plan.numbers % model.columns != 0 || plan.numbers / model.columns < kFewestRows) return;
    const std::int64_t per_number = gain(relative_rows(plan, kRowsTried));
    if (per_number <= (plan.is_long() ? static_cast<std::int64_t>(kLeastGain) : 0)) return;
    const std::uint64_t saved = static_cast<std::uint64_t>(per_number) * plan.numbers >> kLogBits;
    if (saved <= model.columns * kMapBits) return;

    const Rows rows = relative_rows(plan, kRowsLookedAt);
    const std::size_t finest = std::min(kFinest, model.columns / 4);
    std::vector<std::uint8_t> classes = by_mean(rows, 1, finest);
    std::vector<Counts> counts = count(rows, 0, 1, classes, finest);
    std::vector<std::uint8_t> renamed;
    const std::size_t left = merge(counts, plan.numbers / (rows.count() * rows.columns), renamed);
    if (left < 2) return;
    for (std::uint8_t& c : classes) c = renamed[c];
    model.column_classes = left;
    model.column_class = std::move(classes);
}

}  // namespace nncodec::lossless
