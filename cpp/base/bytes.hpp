// Byte-wise reading and writing. Little-endian, LEB128 variable-length integers. Bytes:
// docs/format.md#integers
//
// ByteReader reads untrusted input: every read is bounded and throws DecodeError naming the field, never
// reads on.
#pragma once

#include <bit>
#include <cstdint>
#include <cstring>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/error.hpp"

namespace nncodec {

static_assert(std::endian::native == std::endian::little,
              "big-endian hosts need byte swaps in loads and stores");

using Bytes = std::vector<std::uint8_t>;
using ByteView = std::span<const std::uint8_t>;

template <typename T>
inline T load_le(const std::uint8_t* from) noexcept {
    T value;
    std::memcpy(&value, from, sizeof value);
    return value;
}

template <typename T>
inline void store_le(std::uint8_t* to, T value) noexcept {
    std::memcpy(to, &value, sizeof value);
}

// The integer at `at`, which moves behind it. Nothing if it is cut off or not spelled as it must be; `at` is
// then where that was seen.
inline std::optional<std::uint64_t> try_varint(ByteView data, std::size_t& at) noexcept {
    std::uint64_t value = 0;
    for (unsigned shift = 0; shift < 64 && at < data.size(); shift += 7) {
        const std::uint8_t byte = data[at++];
        const std::uint64_t bits = byte & 0x7F;
        if (shift == 63 && bits > 1) break;
        value |= bits << shift;
        if (byte >= 0x80) continue;
        if (byte == 0 && shift != 0) break;
        return value;
    }
    return std::nullopt;
}

class ByteWriter {
  public:
    void u8(std::uint8_t value) { out_.push_back(value); }

    template <typename T>
    void le(T value) {
        const std::size_t at = out_.size();
        out_.resize(at + sizeof value);
        store_le(out_.data() + at, value);
    }

    void varint(std::uint64_t value) {
        while (value >= 0x80) {
            out_.push_back(static_cast<std::uint8_t>(value | 0x80));
            value >>= 7;
        }
        out_.push_back(static_cast<std::uint8_t>(value));
    }

    void bytes(ByteView view) { out_.insert(out_.end(), view.begin(), view.end()); }

    // A block preceded by its length, so that a reader can bound or skip it.
    void block(ByteView view) {
        varint(view.size());
        bytes(view);
    }

    std::size_t size() const noexcept { return out_.size(); }
    const Bytes& data() const noexcept { return out_; }
    Bytes take() noexcept { return std::move(out_); }

  private:
    Bytes out_;
};

class ByteReader {
  public:
    explicit ByteReader(ByteView data) noexcept : data_(data) {}

    std::size_t left() const noexcept { return data_.size() - at_; }
    std::size_t position() const noexcept { return at_; }

    std::uint8_t u8(const char* field) {
        need(1, field);
        return data_[at_++];
    }

    template <typename T>
    T le(const char* field) {
        need(sizeof(T), field);
        const T value = load_le<T>(data_.data() + at_);
        at_ += sizeof(T);
        return value;
    }

    // At most ten bytes; overlong encodings and values above `max` are refused, so each value has one
    // spelling.
    std::uint64_t varint(const char* field, std::uint64_t max = UINT64_MAX) {
        std::uint64_t value = 0;
        for (unsigned shift = 0; shift < 64; shift += 7) {
            const std::uint8_t byte = u8(field);
            const std::uint64_t bits = byte & 0x7F;
            if (shift == 63 && bits > 1) fail(field, "does not fit 64 bits");
            value |= bits << shift;
            if (byte < 0x80) {
                if (byte == 0 && shift != 0) fail(field, "is spelled with more bytes than it needs");
                if (value > max)
                    fail(field, "is " + std::to_string(value) + ", above " + std::to_string(max));
                return value;
            }
        }
        fail(field, "is longer than ten bytes");
    }

    ByteView bytes(std::size_t n, const char* field) {
        need(n, field);
        const ByteView view = data_.subspan(at_, n);
        at_ += n;
        return view;
    }

    ByteView block(const char* field) {
        return bytes(static_cast<std::size_t>(varint(field, left())), field);
    }

    ByteView rest() noexcept {
        const ByteView view = data_.subspan(at_);
        at_ = data_.size();
        return view;
    }

    // A decoder ends here: bytes that nobody read mean that the lengths lied.
    void expect_end(const char* what) const {
        if (left() != 0) {
            throw DecodeError(std::string(what) + " has " + std::to_string(left()) + " bytes too many");
        }
    }

    [[noreturn]] void fail(const char* field, const std::string& problem) const {
        throw DecodeError(std::string(field) + " " + problem + " (at byte " + std::to_string(at_) + ")");
    }

  private:
    void need(std::size_t n, const char* field) const {
        if (n > left()) {
            fail(field, "needs " + std::to_string(n) + " bytes, " + std::to_string(left()) + " are left");
        }
    }

    ByteView data_;
    std::size_t at_ = 0;
};

}  // namespace nncodec
