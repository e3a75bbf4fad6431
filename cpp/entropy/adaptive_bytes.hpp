// Bytes coded without a header: for arrays too small or too odd to pay for tables. Bytes:
// docs/format.md#adaptive-byte-coder
//
// What surprises: it is slow (a few million bytes a second), and the number of values is not in the stream.
// Use it for side information and small tensors, rANS for the rest.
#pragma once

#include <cstdint>
#include <span>

#include "base/bytes.hpp"

namespace nncodec::adaptive {

// Appends the stream of `values` to `out`; nothing for no values. `stride` (1, 2, 4 or 8) is the size of the
// little-endian integers that the bytes make up; values.size() is a multiple of it.
void encode_bytes(std::span<const std::uint8_t> values, Bytes& out, unsigned stride = 1);

// Fills `out` from a stream that encode_bytes made of as many values with the same stride. Untrusted input:
// throws DecodeError when the stream is too short or too long.
void decode_bytes(ByteView stream, std::span<std::uint8_t> out, unsigned stride = 1);

}  // namespace nncodec::adaptive
