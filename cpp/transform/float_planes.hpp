// Splits floats into exponent symbols and planes of raw bits, and joins them. Bytes:
// docs/format.md#float-planes
//
// What surprises: the sign goes with the mantissa (both are noise, the exponent is not); the raw bits of a
// number are the sign above the mantissa without its lowest `zeros` bits, and are cut from the top into whole
// bytes, each a plane of its own, so that what is left over (`low`, fewer than 8 bits) are the least
// significant ones.
//
// Everything is integer work on bit patterns: NaN payloads, infinities, -0.0 and denormals are numbers like
// any other.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "base/dtype.hpp"

namespace nncodec::planes {

inline constexpr std::size_t kMaxBytePlanes = 6;  // float64: 1 + 52 raw bits
inline constexpr unsigned kEscape = 255;          // symbol of an exponent that is stored elsewhere
inline constexpr unsigned kZero = 0;              // symbol of the number +0 where `sparse` is set

// How exponents become symbols.
//   plain    symbol = exponent (formats whose exponent has at most 8 bits)
//   escaped  symbol = exponent - base if that lies in 0 .. 254, else kEscape
//   sparse   symbol = kZero for +0, else exponent - base if that lies in 1 .. 254, else kEscape
struct SymbolMap {
    bool sparse = false;
    bool escaped = false;   // set whenever sparse is
    std::int32_t base = 0;  // 0 if neither is set
};

// Which bits are raw. `plus`: no number has its sign bit set, so that it is not stored.
struct RawBits {
    unsigned zeros = 0;
    bool plus = false;

    unsigned count(const NumberFormat& format) const noexcept {
        return format.mantissa_bits - zeros + (plus ? 0U : 1U);
    }
    unsigned low(const NumberFormat& format) const noexcept { return count(format) % 8; }
    unsigned bytes(const NumberFormat& format) const noexcept { return count(format) / 8; }
};

// One byte per number in each. `low` holds count % 8 bits in each byte, `bytes[0]` the next higher eight, and
// so on; those beyond RawBits::bytes() are not looked at, nor is `low` if there are no such bits.
template <typename Byte>
struct PlanePointers {
    Byte* low = nullptr;
    std::array<Byte*, kMaxBytePlanes> bytes{};

    PlanePointers advanced(std::size_t n) const noexcept {
        PlanePointers result = *this;
        if (low != nullptr) result.low += n;
        for (Byte*& plane : result.bytes) {
            if (plane != nullptr) plane += n;
        }
        return result;
    }
};
using Planes = PlanePointers<std::uint8_t>;
using ConstPlanes = PlanePointers<const std::uint8_t>;

// Below: `format` is a float's; `numbers` holds n numbers without any alignment.

// symbols[i] = symbol of number i. Returns all bit patterns ORed together.
std::uint64_t symbols_of(const NumberFormat& format, const SymbolMap& map, const std::uint8_t* numbers,
                         std::size_t n, std::uint8_t* symbols) noexcept;

// The raw bits of n numbers to planes.
void split(const NumberFormat& format, const RawBits& raw, const std::uint8_t* numbers, std::size_t n,
           const Planes& planes) noexcept;

// Both in one pass over the numbers.
void split_all(const NumberFormat& format, const SymbolMap& map, const RawBits& raw,
               const std::uint8_t* numbers, std::size_t n, std::uint8_t* symbols,
               const Planes& planes) noexcept;

// Where joined numbers go. `memory` passes by the caches: faster for results that are larger than those and
// are not read soon. Whoever uses it calls finish_memory() before another thread may read them.
enum class Destination { caches, memory };
void finish_memory() noexcept;

// Back: exponent = (symbol + base) mod 2^exponent_bits, also where the symbol is kZero or kEscape: the caller
// mends those. Bits of `low` beyond its count must be 0.
void join(const NumberFormat& format, const SymbolMap& map, const RawBits& raw, const std::uint8_t* symbols,
          std::size_t n, const ConstPlanes& planes, std::uint8_t* numbers,
          Destination destination = Destination::caches) noexcept;

// Bit planes: bit j of values[i] becomes bit i % 8 of byte i / 8 of plane j. Planes of ceil(n / 8) bytes
// follow each other in `out`; bits beyond n are 0. `bits` is 1 .. 7.
void pack_bits(const std::uint8_t* values, std::size_t n, unsigned bits, std::uint8_t* out) noexcept;
void unpack_bits(const std::uint8_t* in, std::size_t n, unsigned bits, std::uint8_t* values) noexcept;
inline std::size_t packed_bits_size(std::size_t n, unsigned bits) noexcept {
    return (n + 7) / 8 * bits;
}

}  // namespace nncodec::planes
