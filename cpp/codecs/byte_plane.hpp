// A run of bytes coded on its own, in whichever way is smallest. Bytes: docs/format.md#byte-planes
#pragma once

#include <optional>

#include "base/bytes.hpp"

namespace nncodec {

// The number of rANS lanes, stored as its binary logarithm.
unsigned read_lanes(ByteReader& in);

// Counts of the byte values.
void count_bytes(ByteView bytes, std::span<std::uint64_t, 256> counts) noexcept;

// dense: whatever is smallest, also the adaptive coder. fast: what decodes at the speed of the rest.
enum class PlaneEffort : std::uint8_t { dense, fast };

void encode_plane(ByteView plane, PlaneEffort effort, ByteWriter& out);

// Fills `plane`, whose size the caller knows. Throws DecodeError.
void decode_plane(ByteReader& in, std::span<std::uint8_t> plane);

// If the next plane is stored as it is: consumes it and returns where it lies. Otherwise consumes nothing.
std::optional<ByteView> raw_plane(ByteReader& in, std::size_t n);

}  // namespace nncodec
