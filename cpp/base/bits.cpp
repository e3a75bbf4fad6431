#include "base/bits.hpp"

#include <algorithm>

namespace nncodec {
namespace {

template <typename Code>
void pack(std::span<const Code> codes, unsigned bits, std::span<std::uint8_t> out) noexcept {
    std::uint64_t pending = 0;
    unsigned n_pending = 0;  // at most 7 between steps
    std::uint8_t* to = out.data();
    std::size_t i = 0;
    // Steps of up to 32 bits without a branch: store eight bytes, keep those that are full.
    constexpr std::size_t kStep = 4 / sizeof(Code);
    const std::uint8_t* const last = out.data() + (out.size() < 8 ? 0 : out.size() - 8);
    for (; i + kStep <= codes.size() && to < last; i += kStep) {
        std::uint64_t step = codes[i];
        if constexpr (kStep == 2) step |= std::uint64_t{codes[i + 1]} << bits;
        pending |= step << n_pending;
        n_pending += static_cast<unsigned>(kStep) * bits;
        store_le(to, pending);
        to += n_pending / 8;
        pending >>= n_pending & ~7U;
        n_pending %= 8;
    }
    for (; i < codes.size(); ++i) {
        pending |= std::uint64_t{codes[i]} << n_pending;
        for (n_pending += bits; n_pending >= 8; n_pending -= 8) {
            *to++ = static_cast<std::uint8_t>(pending);
            pending >>= 8;
        }
    }
    if (n_pending != 0) *to = static_cast<std::uint8_t>(pending);
}

template <typename Code>
Status unpack(std::span<const std::uint8_t> in, unsigned bits, std::span<Code> codes) noexcept {
    const std::size_t size = packed_size(codes.size(), bits);
    if (in.size() < size) return Status::truncated;
    if (in.size() > size) return Status::corrupt;
    const std::uint64_t mask = (std::uint64_t{1} << bits) - 1;
    // A code begins in bit 0 .. 7 of its first byte, so eight bytes hold it whole as bits <= 32. The codes
    // for which eight bytes would reach beyond the end are read from a copy with zeros behind it.
    std::size_t i = 0;
    const std::size_t whole = size < 8 ? 0 : std::min(codes.size(), (size - 8) * 8 / bits + 1);
    for (; i < whole; ++i) {
        const std::size_t bit = i * bits;
        codes[i] = static_cast<Code>((load_le<std::uint64_t>(&in[bit / 8]) >> (bit % 8)) & mask);
    }
    std::uint8_t tail[24] = {};
    const std::size_t tail_at = size < 16 ? 0 : size - 16;
    std::copy(in.begin() + static_cast<std::ptrdiff_t>(tail_at), in.end(), tail);
    for (; i < codes.size(); ++i) {
        const std::size_t bit = i * bits - tail_at * 8;
        codes[i] = static_cast<Code>((load_le<std::uint64_t>(&tail[bit / 8]) >> (bit % 8)) & mask);
    }
    const std::size_t used = codes.size() % 8 * bits % 8;
    return used != 0 && (in.back() >> used) != 0 ? Status::corrupt : Status::ok;
}

template <typename Code>
bool below(std::span<const Code> codes, unsigned bits) noexcept {
    Code all = 0;
    for (const Code code : codes) all = static_cast<Code>(all | code);
    return std::uint64_t{all} >> bits == 0;
}

}  // namespace

bool fit_in(std::span<const std::uint16_t> codes, unsigned bits) noexcept {
    return below(codes, bits);
}
bool fit_in(std::span<const std::uint32_t> codes, unsigned bits) noexcept {
    return below(codes, bits);
}

void bitpack(std::span<const std::uint16_t> codes, unsigned bits, std::span<std::uint8_t> out) noexcept {
    pack(codes, bits, out);
}
void bitpack(std::span<const std::uint32_t> codes, unsigned bits, std::span<std::uint8_t> out) noexcept {
    pack(codes, bits, out);
}
Status bitunpack(std::span<const std::uint8_t> in, unsigned bits, std::span<std::uint16_t> codes) noexcept {
    return unpack(in, bits, codes);
}
Status bitunpack(std::span<const std::uint8_t> in, unsigned bits, std::span<std::uint32_t> codes) noexcept {
    return unpack(in, bits, codes);
}

}  // namespace nncodec
