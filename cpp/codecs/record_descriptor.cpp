#include "codecs/record_descriptor.hpp"

#include <algorithm>

#include "base/crc32c.hpp"
#include "base/dtype.hpp"

namespace nncodec {
namespace {

// As in python/nncodec/container.
constexpr std::uint64_t kMaxTensors = 65536;
constexpr std::uint64_t kMaxDimensions = 64;
constexpr std::uint64_t kMaxBytes = (std::uint64_t{1} << 63) - 1;
constexpr std::uint64_t kMaxChunkElements = std::uint64_t{1} << 20;
constexpr std::size_t kMaxNameBytes = 65535;
constexpr std::size_t kMaxNamesBytes = std::size_t{1} << 26;

// value * factor, or more than kMaxBytes if that is.
std::uint64_t times(std::uint64_t value, std::uint64_t factor) noexcept {
    if (factor != 0 && value > kMaxBytes / factor) return kMaxBytes + 1;
    return value * factor;
}

RecordTensor read_tensor(ByteReader& in, const std::vector<std::uint8_t>& previous, unsigned item,
                         std::uint64_t& record_bytes) {
    RecordTensor tensor;
    const auto same = static_cast<std::size_t>(in.varint("shared part of a name", previous.size()));
    const ByteView rest = in.block("name");
    if (same + rest.size() > kMaxNameBytes) in.fail("name", "is too long");
    tensor.name.reserve(same + rest.size());
    tensor.name.assign(previous.begin(), previous.begin() + static_cast<std::ptrdiff_t>(same));
    tensor.name.insert(tensor.name.end(), rest.begin(), rest.end());
    tensor.ordinal = in.varint("ordinal");
    tensor.origin = in.u8("origin");
    if (tensor.origin > 1) in.fail("origin", "is above 1");
    const std::uint64_t dimensions = in.varint("number of dimensions", kMaxDimensions);
    std::uint64_t bytes = item;
    bool empty = false;
    for (std::uint64_t d = 0; d < dimensions; ++d) {
        const std::uint64_t size = in.varint("size", kMaxBytes);
        tensor.shape.push_back(size);
        empty = empty || size == 0;
        bytes = times(bytes, std::max<std::uint64_t>(size, 1));
    }
    if (bytes > kMaxBytes) in.fail("tensor", "takes 2^63 bytes or more");
    if (!empty) record_bytes = std::min(record_bytes + bytes, kMaxBytes + 1);
    return tensor;
}

}  // namespace

std::optional<RecordDescriptor> read_record_descriptor(ByteView file, std::size_t at) {
    try {
        const std::size_t begin = at;
        const std::optional<std::uint64_t> length = try_varint(file, at);
        if (!length || at + sizeof(std::uint32_t) > file.size() ||
            *length > file.size() - at - sizeof(std::uint32_t)) {
            return std::nullopt;
        }
        RecordDescriptor found;
        found.length = static_cast<std::size_t>(*length);
        found.end = at + found.length + sizeof found.crc;
        found.crc = load_le<std::uint32_t>(file.data() + at + found.length);
        constexpr std::uint8_t kind = 'T';
        const std::uint32_t head = crc32c(file.subspan(begin, at - begin), crc32c(ByteView(&kind, 1)));
        if (crc32c(file.subspan(at, found.length), head) != found.crc) return std::nullopt;

        ByteReader in(file.subspan(at, found.length));
        found.codec = in.varint("codec");
        found.version = in.varint("payload version");
        found.dtype = in.u8("element type");
        const NumberFormat format = number_format(found.dtype);  // throws for packed tensors too
        const unsigned item = format.bytes * format.numbers;
        const auto count = static_cast<std::size_t>(in.varint("number of tensors", kMaxTensors));
        if (count == 0) return std::nullopt;
        const std::vector<std::uint8_t> none;
        std::uint64_t bytes = 0;
        std::size_t names = 0;
        for (std::size_t i = 0; i < count; ++i) {
            found.tensors.push_back(read_tensor(in, i == 0 ? none : found.tensors.back().name, item, bytes));
            names += found.tensors.back().name.size();
            if (names > kMaxNamesBytes) return std::nullopt;
        }
        if (bytes > kMaxBytes) return std::nullopt;
        found.chunk_elements = in.varint("elements per chunk", kMaxChunkElements);
        if (found.chunk_elements == 0) return std::nullopt;
        found.model = in.block("model");
        in.expect_end("descriptor");
        return found;
    } catch (const DecodeError&) {
        return std::nullopt;
    }
}

}  // namespace nncodec
