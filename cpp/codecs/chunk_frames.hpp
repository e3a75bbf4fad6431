// Chunks as they lie in a file: length, payload, checksum. Bytes: docs/format.md#tensor-record-t
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "base/bytes.hpp"

namespace nncodec {

// Bytes that these payloads take with what goes around them.
std::size_t framed_size(std::span<const ByteView> payloads) noexcept;

// Fills `out`, of framed_size bytes, on up to `threads` threads (0: all cores). The payloads are chunks
// `first` and following of the record whose descriptor has this checksum.
void frame_chunks(std::span<const ByteView> payloads, std::uint32_t record_crc, std::uint64_t first,
                  std::span<std::uint8_t> out, std::size_t threads);

}  // namespace nncodec
