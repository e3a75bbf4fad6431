#include "base/bits.hpp"

#include <algorithm>

namespace nncodec {
namespace {

template <typename Code>
void pack(std::span<const Code> codes, unsigned bits, std::span<std::uint8_t> out) noexcept {
    std::uint64_t pending = 0;
    unsigned n_pending = 0;
    std::uint8_t* to = out.data();
    for (const Code code : codes) {
        pending |= std::uint64_t{code} << n_pending;
        n_pending += bits;
        if (n_pending >= 32) {  // at most 31 + 32 bits were pending
            store_le(to, static_cast<std::uint32_t>(pending));
            to += 4;
            pending >>= 32;
            n_pending -= 32;
        }
    }
    for (; n_pending > 0; n_pending -= std::min(n_pending, 8U)) {
        *to++ = static_cast<std::uint8_t>(pending);
        pending >>= 8;
    }
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

}  // namespace

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
