// Models for the binary range coder: what predicts a bit. Bytes: docs/format.md#adaptive-binary-range-coder
//
// A model has p(), the probability of a 1 in units of 2^-16 and always in [1, 65535], and update(bit).
// Everything that codes takes the coder as a template argument and serves both directions (see
// range_coder.hpp).
#pragma once

#include <array>
#include <bit>
#include <cstdint>
#include <span>

#include "entropy/logistic.hpp"
#include "entropy/range_coder.hpp"

namespace nncodec::range {

// One probability that moves by 1 / (n + 1.5) of the error after n bits, but never by less than 1 / (limit
// + 1.5). So it averages what it saw while that is little, and forgets the distant past later.
class BitModel {
  public:
    static constexpr unsigned kMaxLimit = 255;

    std::uint32_t p() const noexcept { return p_; }
    unsigned count() const noexcept { return n_; }

    // Takes over what another model has learned, but still learns at the rate of a new one.
    void start(const BitModel& other) noexcept { p_ = other.p_; }

    void update(bool bit, unsigned limit = 127) noexcept {
        const std::uint32_t rate = kRate[n_];
        const std::uint32_t step =
            ((bit ? kProbOne - 1 - p_ : p_) * rate) >> 16;  // rate < 2^16: p stays above 0
        p_ = static_cast<std::uint16_t>(bit ? p_ + step : p_ - step);
        n_ = static_cast<std::uint16_t>(n_ + (n_ < limit));
    }

  private:
    static constexpr auto kRate = [] {
        std::array<std::uint16_t, kMaxLimit + 1> rate{};
        for (unsigned n = 0; n <= kMaxLimit; ++n)
            rate[n] = static_cast<std::uint16_t>(2 * 65536 / (2 * n + 3));
        return rate;
    }();

    std::uint16_t p_ = kProbOne / 2;
    std::uint16_t n_ = 0;
};

// The mean of a quick and a slow average: 1/16 and 1/128 of the error per bit.
class TwoRateModel {
  public:
    std::uint32_t p() const noexcept { return (std::uint32_t{quick_} + slow_) / 2; }

    void update(bool bit) noexcept {
        const std::int32_t target = bit ? kProbOne - 1 : 1;
        quick_ = static_cast<std::uint16_t>(quick_ + ((target - quick_) >> 4));
        slow_ = static_cast<std::uint16_t>(slow_ + ((target - slow_) >> 7));
    }

  private:
    std::uint16_t quick_ = kProbOne / 2;
    std::uint16_t slow_ = kProbOne / 2;
};

// Joins N predictions: p = squash(sum of weight x stretch(prediction)), the weights learned on line by
// gradient descent on the code length.
template <unsigned N>
class Mixer {
  public:
    static constexpr std::int32_t kOne = 1 << 14;
    static constexpr std::int32_t kMaxWeight = 8 * kOne;
    static constexpr unsigned kDefaultRate = 17;
    static_assert(N * std::int64_t{kMaxWeight} * kMaxStretch < INT32_MAX, "the sum must fit 32 bits");

    using Inputs = std::array<std::int32_t, N>;  // stretched predictions

    Mixer() noexcept { weights_.fill(kOne / static_cast<std::int32_t>(N)); }
    explicit Mixer(const Inputs& weights) noexcept : weights_(weights) {}

    std::uint32_t p(const Inputs& inputs) const noexcept {
        std::int32_t sum = 0;
        for (unsigned i = 0; i < N; ++i) sum += weights_[i] * inputs[i];
        return squash(std::clamp(sum >> 14, -kMaxStretch, kMaxStretch));
    }

    // `p` is what p(inputs) gave; each weight moves by input x error / 2^rate, rate 14 (quick) to 20 (slow).
    void update(const Inputs& inputs, std::uint32_t p, bool bit, unsigned rate = kDefaultRate) noexcept {
        const std::int32_t error = (bit ? 65536 : 0) - static_cast<std::int32_t>(p);
        for (unsigned i = 0; i < N; ++i) {
            const std::int32_t step = (inputs[i] * error + (1 << (rate - 1))) >> rate;
            weights_[i] = std::clamp(weights_[i] + step, -kMaxWeight, kMaxWeight);
        }
    }

  private:
    Inputs weights_;
};

template <typename Coder, typename Model>
bool code_bit(Coder& coder, Model& model, bool bit) {
    bit = coder.code(bit, model.p());
    model.update(bit);
    return bit;
}

// Symbols of kBits bits, most significant first; a model for each prefix.
template <unsigned kBits, typename Model = BitModel>
class BitTree {
  public:
    template <typename Coder>
    std::uint32_t code(Coder& coder, std::uint32_t symbol) {
        std::uint32_t node = 1;
        for (unsigned i = kBits; i-- > 0;) {
            node = 2 * node + code_bit(coder, nodes_[node], (symbol >> i) & 1);
        }
        return node - (1U << kBits);
    }

  private:
    std::array<Model, std::size_t{1} << kBits> nodes_{};
};

// Unsigned integers below 2^32 - 1 of unknown size. value + 1 has k bits below its leading one: k in unary,
// then the two bits after the leading one, all with models of their own, then the rest as direct bits.
template <typename Model = BitModel>
class ExpGolomb {
  public:
    template <typename Coder>
    std::uint32_t code(Coder& coder, std::uint32_t value) {
        const std::uint32_t plus_one = value + 1;
        const auto k_in = static_cast<unsigned>(std::bit_width(plus_one) - 1);
        unsigned k = 0;
        while (k < 31 && code_bit(coder, more_[k], k < k_in)) ++k;

        std::uint32_t result = 1;
        unsigned left = k;
        for (; left != 0 && result < 4; --left) {
            result = 2 * result + code_bit(coder, top_[k][result], (plus_one >> (left - 1)) & 1);
        }
        while (left != 0) {
            const unsigned n = std::min(left, kMaxDirectBits);
            left -= n;
            result = (result << n) | coder.direct((plus_one >> left) & ((1U << n) - 1), n);
        }
        return result - 1;
    }

  private:
    std::array<Model, 31> more_{};
    std::array<std::array<Model, 4>, 32> top_{};
};

}  // namespace nncodec::range
