// LZW (Welch 1984): the classic universal code. Bytes: docs/format.md#lzw
//
// What surprises: the number of bytes is not in the stream, there is no clear code, and a full dictionary is
// thrown away on both sides.
#pragma once

#include <cstdint>
#include <span>

#include "base/bytes.hpp"

namespace nncodec::lzw {

inline constexpr unsigned kMaxCodeBits = 16;

// Appends the stream to `out`; nothing for no bytes.
void encode(ByteView data, Bytes& out);

// Fills `out`. Untrusted: throws DecodeError when the stream does not hold exactly as many bytes.
void decode(ByteView stream, std::span<std::uint8_t> out);

}  // namespace nncodec::lzw
