// Codec 0, `stored`: a chunk's payload is its elements. Bytes: docs/format.md#stored
#pragma once

#include "codecs/chunk_decoder.hpp"

namespace nncodec {

class StoredDecoder final : public ChunkDecoder {
  public:
    void decode(std::size_t chunk, ByteView payload, std::span<std::uint8_t> out) const override;
};

}  // namespace nncodec
