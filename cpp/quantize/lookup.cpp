#include "quantize/lookup.hpp"

#include <algorithm>
#include <array>
#include <cstring>

#include "base/dispatch.hpp"
#include "base/error.hpp"
#include "quantize/lookup_kernels.hpp"

namespace nncodec::lookup {
namespace {

constexpr std::size_t kBytes = 256;  // values of a byte index

std::size_t none(const std::uint8_t*, std::size_t, const std::uint8_t*, std::size_t, std::uint8_t*) noexcept {
    return 0;
}

Run4 run4() {
    switch (active_isa()) {
#if defined(__x86_64__)
        case Isa::avx512:
            return &run4_avx512;
        case Isa::avx2:
            return &run4_avx2;
#endif
        default:
            return &none;
    }
}

template <std::size_t kEntry, typename Index>
void copy(std::span<const Index> indices, const std::uint8_t* table, std::uint8_t* out) noexcept {
    for (const Index index : indices) {
        std::memcpy(out, table + kEntry * index, kEntry);
        out += kEntry;
    }
}

template <typename Index>
void copy_any(std::span<const Index> indices, std::size_t entry, const std::uint8_t* table,
              std::uint8_t* out) noexcept {
    switch (entry) {
        case 1:
            return copy<1>(indices, table, out);
        case 2:
            return copy<2>(indices, table, out);
        case 4:
            return copy<4>(indices, table, out);
        case 8:
            return copy<8>(indices, table, out);
        case 16:
            return copy<16>(indices, table, out);
        default:
            return copy<32>(indices, table, out);
    }
}

// Eight indices of `bits` bits from as many bytes as bits.
void unpack8(const std::uint8_t* from, unsigned bits, std::uint8_t* to) noexcept {
    std::uint64_t word = 0;
    std::memcpy(&word, from, bits);
    const std::uint64_t mask = (std::uint64_t{1} << bits) - 1;
    for (unsigned i = 0; i < 8; ++i) to[i] = static_cast<std::uint8_t>(word >> (i * bits) & mask);
}

void unpack8(const std::uint8_t* from, unsigned bits, std::uint16_t* to) noexcept {
    std::array<std::uint8_t, 20> bytes{};
    std::memcpy(bytes.data(), from, bits);
    const std::uint32_t mask = (std::uint32_t{1} << bits) - 1;
    for (unsigned i = 0; i < 8; ++i) {
        std::uint32_t word = 0;
        std::memcpy(&word, bytes.data() + i * bits / 8, sizeof word);
        to[i] = static_cast<std::uint16_t>(word >> (i * bits % 8) & mask);
    }
}

// Pieces of indices, each to `use` with the number of its first.
template <typename Index, typename Use>
void unpack(ByteView packed, unsigned bits, std::size_t n, const Use& use) {
    constexpr std::size_t kPiece = 4096;  // a multiple of 8
    std::array<Index, kPiece> indices;
    for (std::size_t first = 0; first < n; first += kPiece) {
        const std::size_t count = std::min(kPiece, n - first);
        const std::uint8_t* from = packed.data() + first / 8 * bits;
        std::size_t i = 0;
        for (; i + 8 <= count; i += 8) unpack8(from + i / 8 * bits, bits, indices.data() + i);
        if (i < count) {
            std::array<std::uint8_t, 16> last{};
            std::copy_n(from + i / 8 * bits, ((count - i) * bits + 7) / 8, last.begin());
            unpack8(last.data(), bits, indices.data() + i);  // kPiece is a multiple of 8: there is room
        }
        use(first, std::span<const Index>(indices).first(count));
    }
}

}  // namespace

Table::Table(ByteView entries, std::size_t entry_bytes) : entry_bytes_(entry_bytes) {
    constexpr std::array<std::size_t, 6> kSizes{1, 2, 4, 8, 16, 32};
    if (std::find(kSizes.begin(), kSizes.end(), entry_bytes) == kSizes.end())
        throw ArgumentError("entries must be of 1, 2, 4, 8, 16 or 32 bytes");
    size_ = entries.size() / entry_bytes;
    if (entries.size() % entry_bytes != 0 || size_ < 1 || size_ > 65536)
        throw ArgumentError("a table must have 1 to 65536 whole entries");
    entries_.assign(std::max(size_, kBytes) * entry_bytes, 0);
    std::copy(entries.begin(), entries.end(), entries_.begin());
}

void Table::run(std::span<const std::uint8_t> indices, std::span<std::uint8_t> out) const noexcept {
    std::size_t done = 0;
    if (entry_bytes_ == 4) done = run4()(indices.data(), indices.size(), entries_.data(), size_, out.data());
    copy_any(indices.subspan(done), entry_bytes_, entries_.data(), out.data() + done * entry_bytes_);
}

void Table::run(std::span<const std::uint16_t> indices, std::span<std::uint8_t> out) const noexcept {
    copy_any(indices, entry_bytes_, entries_.data(), out.data());
}

void Table::run_packed(ByteView packed, unsigned bits, std::size_t n, std::span<std::uint8_t> out) const {
    if (bits < 1 || bits > 16 || packed.size() != (n * bits + 7) / 8 || out.size() != n * entry_bytes_)
        throw ArgumentError("packed indices must be of 1 to 16 bits, with as many bytes as they take");
    const auto piece = [&](std::size_t first, std::size_t count) {
        return out.subspan(first * entry_bytes_, count * entry_bytes_);
    };
    if (bits <= 8) {
        unpack<std::uint8_t>(packed, bits, n, [&](std::size_t first, std::span<const std::uint8_t> indices) {
            run(indices, piece(first, indices.size()));
        });
        return;
    }
    unpack<std::uint16_t>(packed, bits, n, [&](std::size_t first, std::span<const std::uint16_t> indices) {
        if (*std::max_element(indices.begin(), indices.end()) >= size_)
            throw ArgumentError("an index is beyond the table");
        run(indices, piece(first, indices.size()));
    });
}

}  // namespace nncodec::lookup
