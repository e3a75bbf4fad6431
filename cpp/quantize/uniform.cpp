#include "quantize/uniform.hpp"

#include <algorithm>
#include <cmath>

#include "base/bits.hpp"

namespace nncodec::uniform {
namespace {

std::size_t context_at(const rans::Layout& layout, std::size_t row, std::size_t column) noexcept {
    return std::size_t{layout.row_context.empty() ? std::uint8_t{0} : layout.row_context[row]} +
           (layout.column_context.empty() ? std::uint8_t{0} : layout.column_context[column]);
}

// The loop over rows and columns, in pieces that fit the nearest cache: body(index, n, row, column).
template <typename Body>
void for_each_piece(const rans::Layout& layout, std::size_t most, Body body) {
    for (std::size_t row = 0, at = 0; at < layout.n; ++row) {
        const std::size_t end = std::min(layout.n, at + layout.columns);
        for (std::size_t column = 0; at < end;) {
            const std::size_t n = std::min(most, end - at);
            body(at, n, row, column);
            at += n;
            column += n;
        }
    }
}

template <typename T>
void look_up(std::span<const std::uint8_t> tokens, const rans::Layout& layout, const Bytes& values,
             std::span<std::uint8_t> out) noexcept {
    const auto* table = reinterpret_cast<const T*>(values.data());
    for_each_piece(layout, SIZE_MAX, [&](std::size_t at, std::size_t n, std::size_t row, std::size_t) {
        const T* of_row = table + 64 * context_at({1, 1, layout.row_context, {}}, row, 0);
        const std::uint8_t* column_context =
            layout.column_context.empty() ? nullptr : layout.column_context.data();
        std::uint8_t* to = out.data() + at * sizeof(T);
        for (std::size_t i = 0; i < n; ++i) {
            const std::size_t context = column_context == nullptr ? 0 : column_context[i];
            const std::size_t token = std::min<std::size_t>(tokens[at + i], 63);
            store_le(to + i * sizeof(T), of_row[64 * context + token]);
        }
    });
}

std::size_t width_of(DType dtype) noexcept {
    return number_format(static_cast<std::uint8_t>(dtype)).bytes;
}

}  // namespace

Thresholds rounding_thresholds() noexcept {
    Thresholds t{};
    for (unsigned token = 1; token < kDirectTokens; ++token) {
        t.middle[token] = static_cast<double>(base_magnitude(token)) - 0.5;
    }
    return t;
}

Thresholds rate_aware_thresholds(std::span<const std::uint32_t> bits, const Offsets& offsets,
                                 double lambda) noexcept {
    Thresholds t = rounding_thresholds();
    for (unsigned token = 1; token < kDirectTokens; ++token) {
        const unsigned inner = token <= 2 ? 0 : token - 2;
        const double sign = is_negative(token) ? -1 : 1;
        const auto magnitude = static_cast<double>(base_magnitude(token));
        const double upper = magnitude + sign * static_cast<double>(offsets[token]) * 0x1p-6;
        const double lower = magnitude - 1 + sign * static_cast<double>(offsets[inner]) * 0x1p-6;
        const double gap = upper - lower;
        if (!(gap > 0.25)) continue;
        const double extra = (static_cast<double>(bits[token]) - static_cast<double>(bits[inner])) * 0x1p-8;
        t.middle[token] = (upper + lower) * 0.5;
        t.slope[token] = lambda * extra / (2 * gap);
    }
    return t;
}

void Histogram::add(const Histogram& other) noexcept {
    for (std::size_t i = 0; i < count.size(); ++i) count[i] += other.count[i];
    for (std::size_t i = 0; i < weight.size(); ++i) weight[i] += other.weight[i];
    for (std::size_t i = 0; i < deviation.size(); ++i) deviation[i] += other.deviation[i];
    square += other.square;
    extra += other.extra;
}

void quantise(const FloatSource& source, std::size_t first, const rans::Layout& layout,
              std::span<const float> importance, const Rule& rule, std::span<std::uint8_t> tokens,
              Bytes* extra, Histogram* histogram) {
    std::array<double, 512> buffer;
    Bytes unused;
    BitWriter raw(extra != nullptr ? *extra : unused);
    double square = 0;
    std::uint64_t raw_bits = 0;
    for_each_piece(
        layout, buffer.size(), [&](std::size_t at, std::size_t n, std::size_t row, std::size_t column) {
            source.load(first + at, std::span(buffer.data(), n));
            for (std::size_t i = 0; i < n; ++i) {
                const std::size_t context = context_at(layout, row, column + i);
                const Thresholds& thresholds = rule.thresholds[context];
                const double t = buffer[i] * rule.inverse_step;
                const double a = std::abs(t);
                const bool negative = t < 0;
                const double w = importance.empty()
                                     ? 1.0
                                     : static_cast<double>(importance[at + i]) * rule.importance_scale;
                auto magnitude = std::min(static_cast<std::uint64_t>(a + 0.5), kMaxLevel);
                unsigned token = token_of(magnitude, negative);
                if (magnitude != 0 && magnitude <= kDirect) {
                    // Multiplied out, so that an importance of 0 chooses the cheaper level.
                    const bool inner = (a - thresholds.middle[token]) * w < thresholds.slope[token];
                    magnitude -= inner ? 1 : 0;
                    token = token_of(magnitude, negative);
                }
                if (!tokens.empty()) tokens[at + i] = static_cast<std::uint8_t>(token);
                const unsigned n_raw = extra_bits(token);
                if (n_raw != 0 && extra != nullptr) {
                    raw.write(static_cast<std::uint32_t>(magnitude - base_magnitude(token)), n_raw);
                }
                if (histogram != nullptr) {
                    const auto level = static_cast<double>(magnitude);
                    const double d = t - (negative ? -level : level);
                    const std::size_t place = context * kOffsets + offset_index(token);
                    ++histogram->count[context * 256 + token];
                    histogram->weight[place] += w;
                    histogram->deviation[place] += w * d;
                    square += w * d * d;
                    raw_bits += n_raw;
                }
            }
        });
    if (extra != nullptr) raw.finish();
    if (histogram != nullptr) {
        histogram->square += square;
        histogram->extra += static_cast<double>(raw_bits);
    }
}

Dequantiser::Dequantiser(DType dtype, double step, std::span<const Offsets> offsets,
                         std::span<const std::uint8_t> table_of)
    : dtype_(dtype), step_(step), offsets_(table_of.size()), values_(table_of.size() * 64 * width_of(dtype)) {
    const std::size_t width = width_of(dtype);
    for (std::size_t context = 0; context < table_of.size(); ++context) {
        offsets_[context] = offsets[table_of[context]];
        for (unsigned token = 0; token < kDirectTokens; ++token) {
            const double value =
                reconstruct(step, base_magnitude(token), is_negative(token), offsets_[context][token]);
            const std::uint64_t bits = round_to(dtype, value);
            std::memcpy(values_.data() + (context * 64 + token) * width, &bits, width);
        }
    }
}

void Dequantiser::run(std::span<const std::uint8_t> tokens, const rans::Layout& layout, ByteView extra,
                      std::span<std::uint8_t> out) const {
    const std::size_t width = width_of(dtype_);
    switch (width) {
        case 8:
            look_up<std::uint64_t>(tokens, layout, values_, out);
            break;
        case 4:
            look_up<std::uint32_t>(tokens, layout, values_, out);
            break;
        default:
            look_up<std::uint16_t>(tokens, layout, values_, out);
            break;
    }
    BitReader raw(extra);
    if (std::any_of(tokens.begin(), tokens.end(),
                    [](std::uint8_t token) { return token >= kDirectTokens; })) {
        for_each_piece(
            layout, SIZE_MAX, [&](std::size_t at, std::size_t n, std::size_t row, std::size_t column) {
                for (std::size_t i = 0; i < n; ++i) {
                    const unsigned token = tokens[at + i];
                    if (token < kDirectTokens) continue;
                    if (token >= kTokens)
                        throw DecodeError("token " + std::to_string(token) + " is above 254");
                    const std::uint64_t magnitude = base_magnitude(token) + raw.read(extra_bits(token));
                    const Offsets& offsets = offsets_[context_at(layout, row, column + i)];
                    const double value =
                        reconstruct(step_, magnitude, is_negative(token), offsets[offset_index(token)]);
                    const std::uint64_t bits = round_to(dtype_, value);
                    std::memcpy(out.data() + (at + i) * width, &bits, width);
                }
            });
    }
    check(raw.finish(), "raw bits of large levels");
}

}  // namespace nncodec::uniform
