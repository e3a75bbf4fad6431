// Base-3^5 bytes by rANS: which of a byte's five digits are zero, in the context of the bytes before it; the
// signs of the others as they are. Bytes: docs/format.md#ternary-rans
//
// What surprises: the context is made of what was decoded before, so each lane has a stretch of the sequence
// of its own, and lanes are there for speed alone. Tables are static and follow from one byte per context,
// which names a density: whether a digit is zero is independent of its neighbours in the same byte, given the
// context.
#pragma once

#include <cstdint>
#include <span>

#include "base/bytes.hpp"

namespace nncodec::ternary_rans {

inline constexpr unsigned kPatterns = 32;  // which of five digits are not zero; the first is the highest bit
inline constexpr unsigned kContexts = 8;
inline constexpr unsigned kDensities = 72;
inline constexpr unsigned kProbBits = 16;
inline constexpr unsigned kMaxLanesLog2 = 3;

// Appends the code of `packed`, bytes of at most 242, to `out`.
void encode(std::span<const std::uint8_t> packed, Bytes& out);

// Fills `packed` from `stream`, which is untrusted and must end where the code does; throws DecodeError. What
// comes out is never above 242.
void decode(ByteView stream, std::span<std::uint8_t> packed);

}  // namespace nncodec::ternary_rans
