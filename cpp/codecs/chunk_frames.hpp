// Chunks as they lie in a file: length, payload, checksum. Bytes: docs/format.md#tensor-record-t
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "base/bytes.hpp"
#include "base/parallel.hpp"

namespace nncodec {

// What the checksum of a chunk's payload continues from.
std::uint32_t chunk_seed(std::uint32_t record_crc, std::uint64_t number, std::uint64_t length) noexcept;

// A chunk that lies in a file from `begin` (its payload) to four bytes behind `end` (its checksum).
struct ChunkFrame {
    std::size_t begin = 0;
    std::size_t end = 0;
    std::uint32_t crc = 0;
};

// The chunk whose length is at `at`; nothing if it is cut off or its length is not spelled as it must be. Its
// checksum is not looked at.
std::optional<ChunkFrame> read_frame(ByteView file, std::size_t at) noexcept;

// What a file is made of: bytes as they are, or the payload of a chunk, which gets its frame.
struct Piece {
    ByteView bytes;
    bool chunk = false;
    std::uint32_t record_crc = 0;  // of its record's descriptor
    std::uint64_t number = 0;      // in its record
};

// Bytes that these take in the file.
std::size_t written_size(std::span<const Piece> pieces) noexcept;

// Fills `out`, of written_size bytes, on up to `threads` threads (0: all cores), as Started does: the calling
// thread goes on meanwhile and helps when it waits. What the pieces are views of, and `out`, must stay until
// then.
class StartedPieces {
  public:
    StartedPieces(std::vector<Piece> pieces, std::span<std::uint8_t> out, std::size_t threads);

    void wait() { started_.wait(); }

  private:
    Started started_;
};

}  // namespace nncodec
