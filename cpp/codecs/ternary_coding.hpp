// Base-3^5 bytes to either code and back; what records and messages have in common.
#pragma once

#include "codecs/ternary.hpp"

namespace nncodec::ternary {

inline constexpr unsigned kCodings = 4;  // layout + 2 * entropy

std::uint8_t coding_byte(Coding coding) noexcept;
Coding coding_of(std::uint8_t byte) noexcept;  // below kCodings

// Appends the code of `packed` to `out`. `packed` may be overwritten.
void encode_packed(std::span<std::uint8_t> packed, Entropy entropy, Bytes& out);

// packed.size() bytes, all at most kLargestByte, in memory that the thread keeps until its next call.
// Untrusted: throws DecodeError before it takes memory for more than `code` can hold.
std::span<const std::uint8_t> decode_packed(ByteView code, Entropy entropy, std::size_t size);

// Largest finite number of a supported type.
float largest_of(DType dtype) noexcept;

}  // namespace nncodec::ternary
