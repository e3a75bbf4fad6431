#include "quantize/strand.hpp"

#include <algorithm>
#include <array>
#include <utility>

#include "base/error.hpp"

namespace nncodec::trellis {
namespace {

constexpr std::size_t kVector = 8;  // 16-bit metrics that a permutation moves within

// to[i] = from[i ^ kMask], in pieces that compilers make one shuffle each of.
template <unsigned kMask, std::size_t kSize>
void exchange(const std::uint16_t* from, std::uint16_t* to) noexcept {
    constexpr std::size_t piece = std::min(kSize, kVector);
    for (std::size_t base = 0; base < kSize; base += piece) {
        const std::uint16_t* const source = from + (base ^ (kMask & ~(piece - 1)));
        for (std::size_t i = 0; i < piece; ++i) to[base + i] = source[i ^ (kMask & (piece - 1))];
    }
}

template <std::size_t kSize>
void choose(const std::uint16_t* even_from, unsigned even, const std::uint16_t* odd_from, unsigned odd,
            std::uint16_t* to, std::uint8_t* by_odd) noexcept {
    for (std::size_t i = 0; i < kSize; ++i) {
        const auto a = static_cast<std::uint16_t>(even_from[i] + even);
        const auto b = static_cast<std::uint16_t>(odd_from[i] + odd);
        to[i] = std::min(a, b);
        by_odd[i] = b < a ? 1 : 0;
    }
}

// State n of the lower half is reached from states of union 0, of the upper half from union 1: see previous()
// in trellis.cpp. Metrics come and go in the order of the states.
template <std::size_t kIndex>
void add_compare_select(const std::uint16_t (&branch)[2][2], std::uint16_t* metrics, std::uint8_t* odd) {
    constexpr Code code = kCodes[kIndex];
    constexpr std::size_t half = code.states / 2;
    constexpr unsigned h0 = (code.h0 >> 1) & (half - 1);
    constexpr unsigned h1 = code.h1 >> 1;
    alignas(64) std::uint16_t from[2][half];
    alignas(64) std::uint16_t moved[2][half];
    for (std::size_t i = 0; i < half; ++i) {
        from[0][i] = metrics[2 * i];
        from[1][i] = metrics[2 * i + 1];
    }
    exchange<h1, half>(from[0], moved[0]);
    choose<half>(from[0], branch[0][0], moved[0], branch[0][1], metrics, odd);
    exchange<h0, half>(from[1], moved[0]);
    exchange<h0 ^ h1, half>(from[1], moved[1]);
    choose<half>(moved[0], branch[1][0], moved[1], branch[1][1], metrics + half, odd + half);
}

template <std::size_t... kIndices>
constexpr auto advances(std::index_sequence<kIndices...>) {
    return std::array{&add_compare_select<kIndices>...};
}

constexpr auto kAdvances = advances(std::make_index_sequence<kCodes.size()>());

std::size_t index_of(const Code& code) {
    for (std::size_t i = 0; i < kCodes.size(); ++i) {
        if (kCodes[i].states == code.states) return i;
    }
    throw ArgumentError("no such trellis code");
}

}  // namespace

Strand::Strand(const Code& code, Alphabet alphabet, std::size_t window)
    : code_(code),
      alphabet_(alphabet),
      advance_(kAdvances[index_of(code)]),
      window_(window),
      metrics_(code.states),
      samples_(window),
      odd_(window * code.states) {
    reach_only(0);
}

void Strand::reach_only(unsigned state) {
    std::fill(metrics_.begin(), metrics_.end(), kUnreached);
    metrics_[state] = 0;
    since_normalised_ = 0;
}

void Strand::step(std::size_t place) {
    advance_(samples_[place].branch, metrics_.data(), odd_.data() + place * code_.states);
    if (++since_normalised_ == kNormaliseEvery) {
        since_normalised_ = 0;
        const std::uint16_t least = *std::min_element(metrics_.begin(), metrics_.end());
        for (std::uint16_t& metric : metrics_) metric = static_cast<std::uint16_t>(metric - least);
    }
}

void Strand::advance(const BranchRow& row, std::size_t count) {
    if (undecided_ + count > window_) throw ArgumentError("more samples are undecided than the window holds");
    for (std::size_t lane = 0; lane < count; ++lane) {
        const std::size_t at = place(undecided_++);
        Sample& sample = samples_[at];
        for (unsigned u = 0; u < 2; ++u) {
            for (unsigned parity = 0; parity < 2; ++parity) {
                sample.branch[u][parity] = row.metric[u][parity][lane];
            }
        }
        sample.below = row.below[lane];
        sample.upper = row.upper[lane];
        step(at);
    }
}

unsigned Strand::best_state() const noexcept {
    return static_cast<unsigned>(std::min_element(metrics_.begin(), metrics_.end()) - metrics_.begin());
}

Decision Strand::decision(const Sample& sample, unsigned union_index, unsigned parity) const noexcept {
    const int floor = level_at_or_below(alphabet_, union_index, sample.below);
    const int lower = floor - static_cast<int>((static_cast<unsigned>(floor) ^ parity) & 1);
    const int level = lower + 2 * (sample.upper >> (2 * union_index + parity) & 1);
    return {static_cast<std::int16_t>(level), static_cast<std::uint8_t>(union_index)};
}

// Follows the best path back to the oldest sample; false if it does not begin in the state that was decided.
bool Strand::trace(std::size_t count, Decision* decisions, unsigned& last) {
    unsigned state = best_state();
    for (std::size_t age = undecided_; age-- > 0;) {
        if (age + 1 == count) last = state;
        const std::size_t at = place(age);
        const unsigned parity = odd_[at * code_.states + state];
        const unsigned union_index = state >= code_.states / 2 ? 1 : 0;
        const unsigned shifted =
            state ^ (union_index != 0 ? code_.h0 >> 1 : 0) ^ (parity != 0 ? code_.h1 >> 1 : 0);
        if (age < count) decisions[age] = decision(samples_[at], union_index, parity);
        state = shifted << 1 | union_index;
    }
    return state == first_state_;
}

std::size_t Strand::decide(std::size_t keep, Decision* decisions) {
    if (undecided_ <= keep) return 0;
    const std::size_t count = undecided_ - keep;
    unsigned last = 0;
    if (!trace(count, decisions, last)) {
        reach_only(first_state_);
        for (std::size_t age = 0; age < undecided_; ++age) step(place(age));
        trace(count, decisions, last);
    }
    first_state_ = last;
    oldest_ = place(count);
    undecided_ = keep;
    return count;
}

}  // namespace nncodec::trellis
