#include <algorithm>
#include <array>
#include <limits>
#include <numeric>
#include <string>

#include "entropy/rans_alias.hpp"

namespace nncodec::rans {
namespace {

// log2((2m+1 + 1) / (2m+1 - 1)) and its kin by log2((1+z)/(1-z)) = 2/ln 2 * (z + z^3/3 + z^5/5 + ...), in
// fixed point.
constexpr std::uint64_t kTwoOverLn2Q40 = 3172519945584;  // 2 / ln 2 * 2^40

// log2(1 + 1/f) with 37 fraction bits: z = 1 / (2f + 1). Strictly falling in f up to 2^16.
std::uint64_t log2_step(std::uint64_t f) noexcept {
    const std::uint64_t odd = 2 * f + 1;
    std::uint64_t term = (kTwoOverLn2Q40 << 16) / odd;
    std::uint64_t sum = 0;
    for (std::uint64_t k = 1; term != 0; k += 2, term /= odd * odd) sum += term / k;
    return sum >> 19;
}

// log2(f) with 24 fraction bits, for 1 <= f <= 2^16: z = (f - 2^k) / (f + 2^k).
std::uint64_t log2_fixed(std::uint32_t f) noexcept {
    const auto whole = static_cast<unsigned>(std::bit_width(f) - 1);
    const std::uint64_t above = f - (1U << whole);
    const std::uint64_t below = f + (1U << whole);
    std::uint64_t term = kTwoOverLn2Q40 * above / below;
    std::uint64_t sum = 0;
    for (std::uint64_t k = 1; term != 0; k += 2) {
        sum += term / k;
        term = term * above / below * above / below;
    }
    return (std::uint64_t{whole} << 24) + ((sum + (1U << 15)) >> 16);
}

const std::array<std::uint32_t, 4097>& log2_table() noexcept {
    static const auto table = [] {
        std::array<std::uint32_t, 4097> logs{};
        for (std::uint32_t f = 1; f < logs.size(); ++f) logs[f] = static_cast<std::uint32_t>(log2_fixed(f));
        return logs;
    }();
    return table;
}

}  // namespace

Frequencies normalise(std::span<const std::uint64_t> counts, unsigned prob_bits) {
    if (counts.size() > 256) throw ArgumentError("rANS codes at most 256 symbols");
    if (prob_bits < kMinProbBits || prob_bits > kMaxProbBits) {
        throw ArgumentError("prob_bits must be 12 to 16, got " + std::to_string(prob_bits));
    }
    while (!counts.empty() && counts.back() == 0) counts = counts.first(counts.size() - 1);
    if (counts.empty()) throw ArgumentError("rANS cannot make a table of no symbols");

    // Counts below 2^26, so that count * log2_step fits 64 bits and sums do not overflow.
    const std::uint64_t greatest = *std::max_element(counts.begin(), counts.end());
    const int shift = std::max(0, static_cast<int>(std::bit_width(greatest)) - 26);
    std::vector<std::uint64_t> weight(counts.size());
    for (std::size_t s = 0; s < counts.size(); ++s) {
        weight[s] = counts[s] == 0 ? 0 : std::max<std::uint64_t>(1, counts[s] >> shift);
    }

    const std::uint32_t total = 1U << prob_bits;
    const std::uint64_t sum = std::accumulate(weight.begin(), weight.end(), std::uint64_t{0});
    Frequencies result{std::vector<std::uint32_t>(counts.size()), prob_bits};
    std::vector<std::uint64_t> gain(counts.size(), 0);           // of one slot more
    std::vector<std::uint64_t> loss(counts.size(), UINT64_MAX);  // of one slot less
    std::uint32_t used = 0;
    const auto update = [&](std::size_t s) {
        const std::uint32_t f = result.of[s];
        gain[s] = weight[s] * log2_step(f);
        loss[s] = f == 1 ? UINT64_MAX : weight[s] * log2_step(f - 1);
    };
    for (std::size_t s = 0; s < counts.size(); ++s) {
        if (weight[s] == 0) continue;
        result.of[s] =
            static_cast<std::uint32_t>(std::max<std::uint64_t>(1, (weight[s] * total + sum / 2) / sum));
        used += result.of[s];
        update(s);
    }

    // Code length is a sum of convex functions, one per symbol, so moving one slot at a time from where it
    // hurts least to where it helps most ends in the optimum. Ties go to the lowest symbol.
    const auto best_gain = [&] {
        return static_cast<std::size_t>(std::max_element(gain.begin(), gain.end()) - gain.begin());
    };
    const auto least_loss = [&] {
        return static_cast<std::size_t>(std::min_element(loss.begin(), loss.end()) - loss.begin());
    };
    const auto give = [&] {
        const std::size_t s = best_gain();
        ++result.of[s];
        update(s);
    };
    const auto take = [&] {
        const std::size_t s = least_loss();
        --result.of[s];
        update(s);
    };
    for (; used < total; ++used) give();
    for (; used > total; --used) take();
    while (gain[best_gain()] > loss[least_loss()]) {
        take();
        give();
    }
    return result;
}

std::uint64_t cost_in_256ths(std::span<const std::uint64_t> counts, const Frequencies& table) noexcept {
    const auto& logs = log2_table();
    std::uint64_t high =
        0;  // counts in two parts of 24 bits, so that nothing overflows for totals below 2^48
    std::uint64_t low = 0;
    for (std::size_t s = 0; s < counts.size(); ++s) {
        if (counts[s] == 0) continue;
        const std::uint32_t f = s < table.of.size() ? table.of[s] : 0;
        if (f == 0) return std::numeric_limits<std::uint64_t>::max();
        const std::uint64_t log2 = f < logs.size() ? logs[f] : log2_fixed(f);
        const std::uint64_t bits = (std::uint64_t{table.prob_bits} << 24) - log2;
        high += (counts[s] >> 24) * bits;
        low += (counts[s] & 0xFFFFFF) * bits;
    }
    return (high << 8) + ((low + 0xFFFF) >> 16);
}

}  // namespace nncodec::rans
