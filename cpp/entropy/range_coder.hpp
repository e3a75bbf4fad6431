// Adaptive binary range coder. Bytes: docs/format.md#adaptive-binary-range-coder
//
// What surprises: encoder and decoder have the same member functions, and `code(bit, p)` returns the bit; the
// decoder ignores the bit it is given. So a model is written once, as a template over the coder, and the two
// directions cannot drift apart. A probability is that of a 1, in units of 2^-16, from 1 to 65535.
//
// The stream does not say where it ends: its length comes from outside. The encoder leaves out up to four
// last bytes that the decoder would read as zeros; the decoder reads zeros beyond the end, counts them, and
// finish() says whether the stream was consumed exactly.
//
// Integer arithmetic only: the same bytes on every machine.
#pragma once

#include <algorithm>
#include <cstdint>

#include "base/bytes.hpp"
#include "base/error.hpp"

namespace nncodec::range {

inline constexpr unsigned kProbBits = 16;
inline constexpr std::uint32_t kProbOne = 1U << kProbBits;
inline constexpr std::uint32_t kMinRange = 1U << 24;
inline constexpr unsigned kFlushBytes = 4;  // the most that the encoder leaves to the decoder's imagination
inline constexpr unsigned kMaxDirectBits = 16;  // at a time

class BinaryEncoder {
  public:
    // Appends to `out`, which must outlive the encoder.
    explicit BinaryEncoder(Bytes& out) noexcept : out_(out) {}

    bool code(bool bit, std::uint32_t p) {
        const auto bound = static_cast<std::uint32_t>((std::uint64_t{range_} * p) >> kProbBits);
        if (bit) {
            range_ = bound;
        } else {
            add(bound);
            range_ -= bound;
        }
        normalise();
        return bit;
    }

    // `n_bits` (0 .. 16) equiprobable bits; value < 2^n_bits.
    std::uint32_t direct(std::uint32_t value, unsigned n_bits) {
        range_ >>= n_bits;
        add(value * range_);
        normalise();
        return value;
    }

    // Call once, at the end: writes as few bytes as tell the decoder where in [low, low + range) to be.
    void finish() {
        for (unsigned n = 0;; ++n) {
            const std::uint64_t below = n == 4 ? 0 : 0xFFFFFFFFU >> (8 * n);
            const std::uint64_t value = (std::uint64_t{low_} + below) & ~below;
            if (value >= std::uint64_t{low_} + range_) continue;
            if (value >> 32) carry();
            for (unsigned i = 0; i < n; ++i) out_.push_back(static_cast<std::uint8_t>(value >> (24 - 8 * i)));
            return;
        }
    }

    Status status() const noexcept { return Status::ok; }

  private:
    void add(std::uint32_t amount) {
        low_ += amount;
        if (low_ < amount) carry();
    }

    // The bytes written so far are a number below 1 less the interval's width: a carry always finds a byte
    // below 255.
    void carry() {
        auto byte = out_.end();
        while (++*--byte == 0) {
        }
    }

    void normalise() {
        while (range_ < kMinRange) {
            out_.push_back(static_cast<std::uint8_t>(low_ >> 24));
            low_ <<= 8;
            range_ <<= 8;
        }
    }

    Bytes& out_;
    std::uint32_t low_ = 0;
    std::uint32_t range_ = 0xFFFFFFFF;
};

class BinaryDecoder {
  public:
    explicit BinaryDecoder(ByteView stream) noexcept : stream_(stream) {
        for (unsigned i = 0; i < 4; ++i) code_ = (code_ << 8) | next();
    }

    bool code(bool /*ignored*/, std::uint32_t p) noexcept {
        const auto bound = static_cast<std::uint32_t>((std::uint64_t{range_} * p) >> kProbBits);
        // No branch on the bit: half of the hard ones would be mispredicted.
        const bool bit = code_ < bound;
        const std::uint32_t zero = bit ? 0 : UINT32_MAX;
        code_ -= bound & zero;
        range_ = bound + ((range_ - 2 * bound) & zero);
        normalise();
        return bit;
    }

    std::uint32_t direct(std::uint32_t /*ignored*/, unsigned n_bits) noexcept {
        range_ >>= n_bits;
        const std::uint32_t value = std::min(code_ / range_, (1U << n_bits) - 1);
        code_ -= value * range_;
        normalise();
        return value;
    }

    // Damage that is certain already: more was read beyond the end than any encoder leaves out. Loops over
    // symbols ask now and then, so that a short stream ends soon.
    Status status() const noexcept { return missing_ > kFlushBytes ? Status::truncated : Status::ok; }

    // Call at the end: `corrupt` when bytes are left over.
    Status finish() const noexcept { return at_ < stream_.size() ? Status::corrupt : status(); }

  private:
    std::uint32_t next() noexcept {
        if (at_ < stream_.size()) return stream_[at_++];
        ++missing_;
        return 0;
    }

    void normalise() noexcept {
        while (range_ < kMinRange) {
            code_ = (code_ << 8) | next();
            range_ <<= 8;
        }
    }

    ByteView stream_;
    std::size_t at_ = 0;
    std::size_t missing_ = 0;
    std::uint32_t code_ = 0;
    std::uint32_t range_ = 0xFFFFFFFF;
};

}  // namespace nncodec::range
