// CRC-32C (Castagnoli), the checksum of the bitstream. Bytes and reason: docs/format.md#checksums
//
// `seed` is the CRC of what came before: crc32c(b, crc32c(a)) == crc32c(a followed by b).
#pragma once

#include <cstdint>

#include "base/bytes.hpp"

namespace nncodec {

std::uint32_t crc32c(ByteView data, std::uint32_t seed = 0) noexcept;

}  // namespace nncodec
