// What a tensor record says of itself before its chunks. Bytes: docs/format.md#tensor-record-t
//
// The usual case only: python/nncodec/container/descriptor.py reads every descriptor, and says what is wrong
// with one that is not as it must be. This one gives up instead.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "base/bytes.hpp"

namespace nncodec {

struct RecordTensor {
    std::vector<std::uint8_t> name;  // bytes that should be UTF-8
    std::uint64_t ordinal = 0;
    std::uint8_t origin = 0;
    std::vector<std::uint64_t> shape;
};

struct RecordDescriptor {
    std::size_t length = 0;  // of the descriptor in the file, checksum and length left out
    std::size_t end = 0;     // place behind its checksum
    std::uint32_t crc = 0;
    std::uint64_t codec = 0;
    std::uint64_t version = 0;
    std::uint8_t dtype = 0;
    std::vector<RecordTensor> tensors;
    std::uint64_t chunk_elements = 0;
    ByteView model;
};

// The descriptor of the record whose type, one byte, lies before `at`. Nothing if any rule of the format is
// broken, the checksum included, or the tensors are packed. Whether names are UTF-8 is left to the caller.
std::optional<RecordDescriptor> read_record_descriptor(ByteView file, std::size_t at);

}  // namespace nncodec
