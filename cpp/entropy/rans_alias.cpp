#include "entropy/rans_alias.hpp"

#include <algorithm>
#include <numeric>

namespace nncodec::rans {

unsigned bucket_bits_for(std::span<const Frequencies> tables) noexcept {
    std::size_t most = 32;
    for (const Frequencies& table : tables) {
        const auto unused = std::count(table.of.begin(), table.of.end(), 0U);
        most = std::max(most, table.of.size() - static_cast<std::size_t>(unused));
    }
    return static_cast<unsigned>(std::bit_width(most - 1));
}

AliasTable make_alias_table(const Frequencies& table, unsigned bucket_bits) noexcept {
    AliasTable result{};
    for (std::size_t s = 0; s < table.of.size(); ++s) {
        if (table.of[s] == 0) continue;
        result.symbol[result.ranks] = static_cast<std::uint8_t>(s);
        result.frequency[result.ranks++] = table.of[s];
    }
    const unsigned buckets = 1U << bucket_bits;
    const std::uint32_t width = 1U << (table.prob_bits - bucket_bits);

    for (unsigned b = 0; b < buckets; ++b) result.cut[b] = static_cast<std::uint16_t>(width);

    // Each bucket that its own symbol cannot fill is topped up by one donor: the first symbol that has more
    // slots than a bucket. A donor that falls below one bucket is topped up next. It gives its last places
    // away.
    std::array<std::uint32_t, 256> left = result.frequency;
    const auto next_donor = [&](unsigned from) {
        while (from < buckets && left[from] <= width) ++from;
        return from;
    };
    const auto next_short = [&](unsigned from) {
        while (from < buckets && left[from] >= width) ++from;
        return from;
    };
    unsigned donor = next_donor(0);
    unsigned scan = next_short(0);
    unsigned bucket = scan;
    while (donor < buckets) {
        left[donor] -= width - left[bucket];
        result.cut[bucket] = static_cast<std::uint16_t>(left[bucket]);
        result.alias[bucket] = static_cast<std::uint8_t>(donor);
        result.shift[bucket] = static_cast<std::uint16_t>(left[donor] - left[bucket]);
        left[bucket] = width;
        if (left[donor] < width) {
            bucket = donor;
            donor = next_donor(donor + 1);
        } else {
            if (left[donor] == width) donor = next_donor(donor + 1);
            bucket = scan = next_short(scan);
        }
    }
    return result;
}

void check_tables(std::span<const Frequencies> tables) {
    if (tables.empty() || tables.size() > kMaxTables) {
        throw ArgumentError("rANS takes 1 to 256 tables, got " + std::to_string(tables.size()));
    }
    const unsigned prob_bits = tables.front().prob_bits;
    if (prob_bits < kMinProbBits || prob_bits > kMaxProbBits) {
        throw ArgumentError("prob_bits must be 12 to 16, got " + std::to_string(prob_bits));
    }
    for (const Frequencies& table : tables) {
        if (table.prob_bits != prob_bits) throw ArgumentError("rANS tables must share one prob_bits");
        if (table.of.size() > 256) throw ArgumentError("a rANS table has at most 256 symbols");
        const auto sum = std::accumulate(table.of.begin(), table.of.end(), std::uint64_t{0});
        if (sum != std::uint64_t{1} << prob_bits) {
            throw ArgumentError("the frequencies of a rANS table sum to " + std::to_string(sum) +
                                ", not to 2^" + std::to_string(prob_bits));
        }
    }
}

}  // namespace nncodec::rans
