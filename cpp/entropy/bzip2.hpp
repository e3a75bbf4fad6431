// Decoder of bzip2 streams (J. Seward): run lengths, Burrows-Wheeler transform, move to front, Huffman codes.
// Bytes: docs/format.md#bzip2
//
// What surprises: only the decoder is here. Streams are made by whatever bzip2 there is; codec `transform`
// has them for the form in which its paper stored indices.
#pragma once

#include <cstdint>
#include <span>

#include "base/bytes.hpp"

namespace nncodec::bzip2 {

// Fills `out` from one stream that makes exactly as many bytes. Untrusted input: throws DecodeError when it
// is damaged, of another length, uses randomised blocks, or has bytes left over.
void decode(ByteView stream, std::span<std::uint8_t> out);

}  // namespace nncodec::bzip2
