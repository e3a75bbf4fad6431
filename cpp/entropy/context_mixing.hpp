// Integers of unknown distribution, coded without a header: many predictions of each binary decision, mixed.
// Bytes: docs/format.md#context-mixing
//
// What surprises: encoder and decoder are one template (see range_coder.hpp), so the decoder's `integer`
// ignores its argument and returns what was coded. Elements have a position in a tensor, so that neighbours
// in the kernel, the input channel and the output channel can be asked.
#pragma once

#include <algorithm>
#include <array>
#include <bit>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "base/bytes.hpp"
#include "base/interrupt.hpp"
#include "entropy/logistic.hpp"
#include "entropy/range_coder.hpp"
#include "quantize/lattice.hpp"

namespace nncodec::mixing {

inline constexpr unsigned kKinds = lattice::kKinds;
inline constexpr std::int32_t kMaxMagnitude = (1 << 30) - 1;

inline constexpr std::uint32_t kMaxRow = 1U << 20;

// How far apart neighbours are: in a row of the kernel, a kernel, all input channels. 0 or 1 where there is
// none.
struct Layout {
    std::uint32_t width = 1;
    std::uint32_t repeat = 1;
    std::uint32_t row = 0;
};

// A probability in 22 bits and the number of bits seen in 10: it moves by 1 / (n + 1.5) of the error.
class Counter {
  public:
    static constexpr unsigned kLimit = 1023;

    bool fresh() const noexcept { return (state_ & kLimit) == 0; }
    std::uint32_t p() const noexcept { return std::clamp<std::uint32_t>(state_ >> 16, 1, 65535); }
    void start(const Counter& other) noexcept { state_ = other.state_ & ~kLimit; }

    void update(bool bit, unsigned limit) noexcept {
        const unsigned n = state_ & kLimit;
        const auto p = static_cast<std::int64_t>(state_ >> 10);
        const std::int64_t target = bit ? (1 << 22) - 1 : 0;
        const std::int64_t moved = p + ((target - p) * kRate[n] >> 16);
        state_ = static_cast<std::uint32_t>(moved) << 10 | (n < limit ? n + 1 : n);
    }

  private:
    static constexpr auto kRate = [] {
        std::array<std::uint16_t, kLimit + 1> rate{};
        for (unsigned n = 0; n <= kLimit; ++n) rate[n] = static_cast<std::uint16_t>(131072 / (2 * n + 3));
        return rate;
    }();

    std::uint32_t state_ = 1U << 31;
};

// Numbers of the decisions that make up an integer: is it 0, its sign, then for each sign the exponent e of
// its magnitude in unary and, for e up to 6, the bits below the leading one as a tree.
inline constexpr unsigned kTreeExponent = 6;
inline constexpr unsigned kMaxExponent = 29;
inline constexpr unsigned kSignNodes = 32 + (2U << kTreeExponent);
inline constexpr unsigned kNodes = 2 + 2 * kSignNodes;
inline constexpr unsigned kTopBits = 3;  // of larger magnitudes that are modelled

inline constexpr unsigned kInputs = 6;

// A row of counters per context, made when the context first comes up.
class Bank {
  public:
    explicit Bank(std::size_t contexts) : row_of_(contexts, kNone) {}

    Counter* operator[](std::size_t context) {
        std::uint32_t& row = row_of_[context];
        if (row == kNone) {
            row = static_cast<std::uint32_t>(rows_.size());
            rows_.push_back(std::make_unique<std::array<Counter, kNodes>>());
        }
        return rows_[row]->data();
    }

  private:
    static constexpr std::uint32_t kNone = UINT32_MAX;
    std::vector<std::uint32_t> row_of_;
    std::vector<std::unique_ptr<std::array<Counter, kNodes>>> rows_;
};

// Weights of the predictions for one kind of decision.
class Mixer {
  public:
    using Inputs = std::array<std::int32_t, kInputs>;
    static constexpr std::int32_t kOne = 1 << 16;

    Mixer() noexcept { weights_.fill(kOne * 3 / 10); }

    std::uint32_t p(const Inputs& inputs) const noexcept {
        std::int64_t sum = 0;
        for (unsigned i = 0; i < kInputs; ++i) sum += std::int64_t{weights_[i]} * inputs[i];
        return range::squash(static_cast<std::int32_t>(
            std::clamp<std::int64_t>(sum >> 16, -range::kMaxStretch, range::kMaxStretch)));
    }

    // Quick at first, slower with every doubling of what it has seen.
    void update(const Inputs& inputs, std::uint32_t p, bool bit) noexcept {
        const std::int32_t error = (bit ? 65536 : 0) - static_cast<std::int32_t>(p);
        const unsigned shift =
            kQuickest + std::min<unsigned>(std::bit_width(seen_ >> 4), kSlowest - kQuickest);
        for (unsigned i = 0; i < kInputs; ++i) {
            const std::int64_t step = (std::int64_t{inputs[i]} * error + (1 << (shift - 1))) >> shift;
            weights_[i] =
                static_cast<std::int32_t>(std::clamp<std::int64_t>(weights_[i] + step, -8 * kOne, 8 * kOne));
        }
        if (seen_ < (1U << 20)) ++seen_;
    }

  private:
    static constexpr unsigned kQuickest = 13;
    static constexpr unsigned kSlowest = 19;
    std::array<std::int32_t, kInputs> weights_;
    std::uint32_t seen_ = 0;
};

// Fixed-point averages on a scale of two steps per octave.
inline unsigned octave(std::uint32_t x) noexcept {
    if (x < 2) return x;
    const auto width = static_cast<unsigned>(std::bit_width(x));
    return 2 * (width - 1) + ((x >> (width - 2)) & 1);
}

template <typename Coder>
class Integers {
  public:
    // Positions are below `elements`.
    Integers(Coder& coder, std::size_t elements, const Layout& layout)
        : coder_(coder), layout_(layout), value_(elements), column_(std::max(layout.row, 1U)) {
        for (unsigned i = 0; i < kInputs; ++i) banks_.emplace_back(kKinds * kContexts[i]);
    }

    // Codes an integer of magnitude at most kMaxMagnitude.
    std::int32_t integer(std::size_t position, unsigned kind, std::int32_t value) {
        look(position, kind);
        const bool zero = value == 0;
        std::int32_t result = 0;
        if (!decide(0, 0, zero)) {
            const bool negative = decide(1, 1, value < 0);
            const unsigned first = negative ? 2 + kSignNodes : 2;
            const auto magnitude_in =
                static_cast<std::uint32_t>(value < 0 ? -value : value) | (zero ? 1U : 0U);
            const auto e_in = static_cast<unsigned>(std::bit_width(magnitude_in)) - 1;
            unsigned e = 0;
            while (e < kMaxExponent && decide(first + e, 2 + std::min(e, 9U), e < e_in)) ++e;
            std::uint32_t magnitude = 1;
            if (e <= kTreeExponent) {
                for (unsigned left = e; left-- > 0;) {
                    const bool bit = (magnitude_in >> left) & 1;
                    magnitude = 2 * magnitude + decide(node_of(first, e, magnitude), 12, bit);
                }
            } else {
                magnitude = large(e, magnitude_in);
            }
            result = negative ? -static_cast<std::int32_t>(magnitude) : static_cast<std::int32_t>(magnitude);
        }
        note(position, lattice::quarters(kind, result));
        return result;
    }

    // Codes whether there is anything at a position.
    bool flag(std::size_t position, bool set) {
        look(position, 0);
        const bool result = !decide(0, 0, !set);
        note(position, result ? 4 : 0);
        return result;
    }

  private:
    static constexpr std::array<std::uint16_t, kInputs> kContexts{1, 108, 16 * 32, 108, 32 * 32, 81 * 4};
    static constexpr unsigned kSets = 13;
    static constexpr std::uint32_t kStepsBetweenPoints = 4096;  // a millisecond or two

    static unsigned node_of(unsigned first, unsigned e, std::uint32_t prefix) noexcept {
        // Trees of e = 1 .. 6 one after the other: 2^e - 2 nodes before that of e, prefix 1 .. 2^e - 1
        // inside.
        return first + 32 + (1U << e) - 2 + prefix - 1;
    }

    // 0, 1, 2, 3, 4, 5 for nothing, up to 1/2, 1, 2, 4, more.
    static unsigned grade(unsigned level) noexcept {
        return level < 3 ? level : level < 5 ? 3 : level < 9 ? 4 : 5;
    }
    static unsigned level(std::int32_t quarter) noexcept {
        return (static_cast<unsigned>(quarter < 0 ? -quarter : quarter) + 1) / 2;
    }
    static unsigned sign(std::int32_t quarter) noexcept { return quarter == 0 ? 0U : quarter < 0 ? 1U : 2U; }

    std::int32_t at(std::size_t position, std::uint32_t distance) const noexcept {
        return distance != 0 && distance <= position ? value_[position - distance] : 0;
    }

    void look(std::size_t position, unsigned kind) {
        if (++steps_ % kStepsBetweenPoints == 0) interruption_point();
        const std::int32_t above = at(position, layout_.width);
        const std::int32_t channel = at(position, layout_.repeat);
        const std::int32_t row = at(position, layout_.row);
        if (layout_.row != 0 && position / layout_.row != row_) {
            row_ = position / layout_.row;
            across_ = (across_ + overall_) / 2;
        }
        const std::size_t column = layout_.row != 0 ? position % layout_.row : 0;
        const unsigned place = layout_.repeat <= 16 ? static_cast<unsigned>(position % layout_.repeat) : 0;
        const std::array<std::size_t, kInputs> context{
            0,
            (6 * grade(level(last_)) + grade(level(before_))) * 3 + sign(last_),
            16 * std::min<std::size_t>(octave(recent_), 31) + place,
            (6 * grade(level(channel)) + grade(level(row))) * 3 + sign(channel),
            32 * std::min<std::size_t>(octave(column_[column]), 31) +
                std::min<std::size_t>(octave(across_), 31),
            (27 * sign(last_) + 9 * sign(above) + 3 * sign(channel) + sign(row)) * 4 +
                std::min(3U, grade(level(above)))};
        for (unsigned i = 0; i < kInputs; ++i) rows_[i] = banks_[i][kind * kContexts[i] + context[i]];
        column_at_ = column;
    }

    bool decide(unsigned node, unsigned set, bool bit) {
        Mixer::Inputs inputs;
        Counter& alone = rows_[0][node];
        for (unsigned i = 0; i < kInputs; ++i) {
            Counter& counter = rows_[i][node];
            if (counter.fresh()) counter.start(alone);
            inputs[i] = range::stretch(counter.p());
        }
        Mixer& mixer = mixers_[set];
        const std::uint32_t p = mixer.p(inputs);
        bit = coder_.code(bit, p);
        mixer.update(inputs, p, bit);
        alone.update(bit, Counter::kLimit);
        for (unsigned i = 1; i < kInputs; ++i) rows_[i][node].update(bit, 255);
        return bit;
    }

    // Magnitudes from 128 on: the three bits after the leading one are modelled, the others are not.
    std::uint32_t large(unsigned e, std::uint32_t magnitude_in) {
        std::uint32_t magnitude = 1;
        unsigned left = e;
        for (; left != 0 && magnitude < (1U << kTopBits); --left) {
            Counter& counter = top_[e][magnitude];
            const bool bit = coder_.code((magnitude_in >> (left - 1)) & 1, counter.p());
            counter.update(bit, 255);
            magnitude = 2 * magnitude + bit;
        }
        while (left != 0) {
            const unsigned n = std::min(left, range::kMaxDirectBits);
            left -= n;
            magnitude = magnitude << n | coder_.direct((magnitude_in >> left) & ((1U << n) - 1), n);
        }
        return magnitude;
    }

    void note(std::size_t position, std::int64_t quarter) {
        const auto q = static_cast<std::int32_t>(std::clamp<std::int64_t>(quarter, -32767, 32767));
        value_[position] = static_cast<std::int16_t>(q);
        before_ = last_;
        last_ = q;
        const std::uint32_t scaled = std::min(level(q), 4095U) * 256;
        recent_ += (scaled >> 2) - (recent_ >> 2);
        across_ += (scaled >> 4) - (across_ >> 4);
        overall_ += (scaled >> 8) - (overall_ >> 8);
        std::uint32_t& column = column_[column_at_];
        column += (scaled >> 2) - (column >> 2);
    }

    Coder& coder_;
    Layout layout_;
    std::vector<std::int16_t> value_;  // in quarters
    std::vector<std::uint32_t> column_;
    std::vector<Bank> banks_;
    std::array<Counter*, kInputs> rows_{};
    std::array<Mixer, kSets> mixers_;
    std::array<std::array<Counter, 1U << kTopBits>, kMaxExponent + 1> top_;
    std::int32_t last_ = 0;
    std::int32_t before_ = 0;
    std::uint32_t recent_ = 0;
    std::uint32_t across_ = 0;
    std::uint32_t overall_ = 0;
    std::size_t row_ = 0;
    std::size_t column_at_ = 0;
    std::uint32_t steps_ = 0;
};

// Integers at the positions 0, 1, ... on their own; kinds: one per integer, or empty for all 0.
void encode_integers(std::span<const std::int32_t> values, std::span<const std::uint8_t> kinds,
                     const Layout& layout, Bytes& out);
// Untrusted: throws DecodeError when the stream is too short or too long.
void decode_integers(ByteView stream, std::span<const std::uint8_t> kinds, const Layout& layout,
                     std::span<std::int32_t> out);

}  // namespace nncodec::mixing
