// Bit-wise reading and writing, least significant bit first. Bytes: docs/format.md#bit-packing
//
// BitReader reads untrusted input: beyond the end it gives zeros, and finish() says that there was an end to
// cross.
#pragma once

#include <cstdint>
#include <span>

#include "base/bytes.hpp"
#include "base/error.hpp"

namespace nncodec {

// Appends bits to `out`, which must outlive the writer and is its own until finish(), which gives it its
// size.
class BitWriter {
  public:
    explicit BitWriter(Bytes& out) noexcept : out_(out), at_(out.size()) {}

    // The low `n_bits` (0 .. 32) bits of value; the others must be 0.
    void write(std::uint32_t value, unsigned n_bits) {
        pending_ |= std::uint64_t{value} << n_pending_;
        n_pending_ += n_bits;
        // Without a branch on how many bytes are full: eight are stored, and the full ones kept.
        if (out_.size() - at_ < sizeof pending_) [[unlikely]]
            out_.resize(2 * at_ + kLeast);
        store_le(out_.data() + at_, pending_);
        at_ += n_pending_ / 8;
        pending_ >>= n_pending_ & ~7U;
        n_pending_ %= 8;
    }

    // Fills the last byte with zeros. Call once, at the end.
    void finish() {
        out_.resize(at_);
        if (n_pending_ != 0) out_.push_back(static_cast<std::uint8_t>(pending_));
    }

  private:
    static constexpr std::size_t kLeast = 64;

    Bytes& out_;
    std::size_t at_;
    std::uint64_t pending_ = 0;
    unsigned n_pending_ = 0;  // below 8 between calls
};

class BitReader {
  public:
    explicit BitReader(ByteView data) noexcept : data_(data) {}

    // `n_bits` is at most 32.
    std::uint32_t read(unsigned n_bits) noexcept {
        if (n_pending_ < n_bits) refill(n_bits);
        const auto value = static_cast<std::uint32_t>(pending_ & ((std::uint64_t{1} << n_bits) - 1));
        pending_ >>= n_bits;
        n_pending_ -= n_bits;
        return value;
    }

    // `corrupt` when bytes are left over or the last byte is not filled with zeros.
    Status finish() const noexcept {
        if (truncated_) return Status::truncated;
        const bool all = at_ == data_.size() && n_pending_ < 8;
        return all && (pending_ & ((std::uint64_t{1} << n_pending_) - 1)) == 0 ? Status::ok : Status::corrupt;
    }

  private:
    void refill(unsigned n_bits) noexcept {
        if (data_.size() - at_ >=
            8) {  // then 56 to 63 bits are pending, and above them some of the next byte
            pending_ |= load_le<std::uint64_t>(data_.data() + at_) << n_pending_;
            at_ += (63 - n_pending_) / 8;
            n_pending_ |= 56;
            return;
        }
        while (n_pending_ < n_bits) {
            if (at_ < data_.size()) {
                pending_ |= std::uint64_t{data_[at_++]} << n_pending_;
            } else {
                truncated_ = true;
            }
            n_pending_ += 8;
        }
    }

    ByteView data_;
    std::size_t at_ = 0;
    std::uint64_t pending_ = 0;  // not given out yet; above n_pending_ bits, those of the byte at at_ or 0
    unsigned n_pending_ = 0;     // at most 63
    bool truncated_ = false;
};

inline constexpr std::size_t packed_size(std::size_t n, unsigned bits) noexcept {
    return n / 8 * bits + (n % 8 * bits + 7) / 8;
}

// Packs codes of `bits` bits (1 .. 16, or 1 .. 32), each below 2^bits. out.size() ==
// packed_size(codes.size(), bits).
void bitpack(std::span<const std::uint16_t> codes, unsigned bits, std::span<std::uint8_t> out) noexcept;
void bitpack(std::span<const std::uint32_t> codes, unsigned bits, std::span<std::uint8_t> out) noexcept;

// Whether each code is below 2^bits, as packing them asks.
bool fit_in(std::span<const std::uint16_t> codes, unsigned bits) noexcept;
bool fit_in(std::span<const std::uint32_t> codes, unsigned bits) noexcept;

// `in` is untrusted: `truncated` when it is shorter than packed_size(codes.size(), bits), `corrupt` when it
// is longer or its last byte is not filled with zeros; codes are then unspecified.
Status bitunpack(std::span<const std::uint8_t> in, unsigned bits, std::span<std::uint16_t> codes) noexcept;
Status bitunpack(std::span<const std::uint8_t> in, unsigned bits, std::span<std::uint32_t> codes) noexcept;

}  // namespace nncodec
