// Uniform scalar quantiser with rate-aware decisions and centroid reconstruction. Bytes:
// docs/format.md#uniform
//
// What surprises: a level is not the nearest one but the one of the nearest two that costs least,
// squared error + lambda * bits, decided by one threshold per level and table; and a level's value is not its
// midpoint but the centroid of what was quantised to it, kept as an offset in 64ths of a step.
//
// Levels become tokens: levels up to 31 in magnitude have one each, larger ones share a token by sign,
// exponent and the two bits after the leading one, and carry the other bits raw.
#pragma once

#include <array>
#include <bit>
#include <cstdint>
#include <span>
#include <vector>

#include "entropy/rans.hpp"
#include "quantize/float_source.hpp"

namespace nncodec::uniform {

inline constexpr unsigned kDirect = 31;                     // largest magnitude with a token of its own
inline constexpr unsigned kDirectTokens = 2 * kDirect + 1;  // tokens 0 .. 62
inline constexpr unsigned kTokens = 255;
inline constexpr std::uint64_t kMaxLevel = (std::uint64_t{1} << 29) - 1;
inline constexpr unsigned kOffsets =
    kDirectTokens + 2;  // one per direct token, then larger negative, larger positive

// 0, +1, -1, +2, -2 ... for magnitudes up to 31; then by exponent, two bits, sign.
constexpr unsigned token_of(std::uint64_t magnitude, bool negative) noexcept {
    if (magnitude == 0) return 0;
    if (magnitude <= kDirect) return static_cast<unsigned>(2 * magnitude) - (negative ? 0U : 1U);
    const auto exponent = static_cast<unsigned>(std::bit_width(magnitude)) - 1;  // 5 .. 28
    const auto top = static_cast<unsigned>(magnitude >> (exponent - 2)) & 3U;
    return kDirectTokens + 2 * (4 * (exponent - 5) + top) + (negative ? 1U : 0U);
}

// Raw bits that follow a token, 0 for direct ones.
constexpr unsigned extra_bits(unsigned token) noexcept {
    return token < kDirectTokens ? 0 : (token - kDirectTokens) / 8 + 3;
}

// The smallest magnitude of a token.
constexpr std::uint64_t base_magnitude(unsigned token) noexcept {
    if (token < kDirectTokens) return (token + 1) / 2;
    return std::uint64_t{4 + (((token - kDirectTokens) / 2) & 3U)} << extra_bits(token);
}

constexpr bool is_negative(unsigned token) noexcept {
    return token < kDirectTokens ? token != 0 && token % 2 == 0 : (token - kDirectTokens) % 2 == 1;
}

constexpr unsigned offset_index(unsigned token) noexcept {
    return token < kDirectTokens ? token : kDirectTokens + (is_negative(token) ? 0U : 1U);
}

static_assert(token_of(kMaxLevel, true) == kTokens - 1 && extra_bits(kTokens - 1) == 26);

// Reconstruction offsets of one table, in 64ths of a step towards +infinity.
using Offsets = std::array<std::int8_t, kOffsets>;

// The value of a level: step * (level + offset / 64), in binary64; the sum is exact, the product rounds once.
inline double reconstruct(double step, std::uint64_t magnitude, bool negative, std::int8_t offset) noexcept {
    const auto level = static_cast<double>(magnitude);
    return step * ((negative ? -level : level) + static_cast<double>(offset) * 0x1p-6);
}

// Where the decision between a direct level and the next one towards zero falls, in |x| / step, by token:
// middle + slope / importance. Larger magnitudes are rounded.
struct Thresholds {
    std::array<double, kDirectTokens> middle;
    std::array<double, kDirectTokens> slope;
};

// Plain rounding: middle = magnitude - 1/2.
Thresholds rounding_thresholds() noexcept;

// Minimises (x / step - value)^2 + lambda * bits. `bits`: per token, in 256ths of a bit.
Thresholds rate_aware_thresholds(std::span<const std::uint32_t> bits, const Offsets& offsets,
                                 double lambda) noexcept;

// What a pass over some weights counts, per context. Tokens that do not occur are 0.
struct Histogram {
    explicit Histogram(std::size_t contexts)
        : count(contexts * 256), weight(contexts * kOffsets), deviation(contexts * kOffsets) {}
    void add(const Histogram& other) noexcept;

    std::vector<std::uint64_t> count;  // 256 per context
    std::vector<double> weight;        // kOffsets per context: sum of importance
    std::vector<double> deviation;     // kOffsets per context: sum of importance * (x / step - level)
    double square = 0;                 // sum of importance * (x / step - level)^2
    double extra = 0;                  // raw bits
};

// How to quantise: `thresholds` has one entry per context.
struct Rule {
    double inverse_step = 1;
    double importance_scale = 1;  // one over the mean, so that weights are 1 on average
    std::span<const Thresholds> thresholds;
};

// Quantises numbers [first, first + layout.n) of `source`. `importance` is empty or has layout.n entries. Any
// of the outputs may be absent: `tokens` and `extra` (raw bits, least significant first) for coding,
// `histogram` for statistics. The caller ensures |x| / step <= kMaxLevel and thresholds for every context.
void quantise(const FloatSource& source, std::size_t first, const rans::Layout& layout,
              std::span<const float> importance, const Rule& rule, std::span<std::uint8_t> tokens,
              Bytes* extra, Histogram* histogram);

// Values of direct tokens, 64 per context, each in the low bytes of a 64-bit word: dequantise's look-up
// table.
class Dequantiser {
  public:
    // offsets: one per table; table_of: table of each context.
    Dequantiser(DType dtype, double step, std::span<const Offsets> offsets,
                std::span<const std::uint8_t> table_of);
    // Fills `out` (layout.n elements). `extra` is untrusted: throws DecodeError unless it holds exactly the
    // bits that the tokens ask for, the padding being 0. Tokens >= kTokens are refused.
    void run(std::span<const std::uint8_t> tokens, const rans::Layout& layout, ByteView extra,
             std::span<std::uint8_t> out) const;

  private:
    DType dtype_;
    double step_;
    std::vector<Offsets> offsets_;  // per context
    Bytes values_;                  // 64 per context, of the element's size
};

}  // namespace nncodec::uniform
