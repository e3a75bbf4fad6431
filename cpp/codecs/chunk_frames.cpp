#include "codecs/chunk_frames.hpp"

#include <algorithm>
#include <array>
#include <bit>

#include "base/crc32c.hpp"
#include "base/parallel.hpp"

namespace nncodec {
namespace {

constexpr std::size_t kCrcBytes = 4;

std::size_t varint_size(std::uint64_t value) noexcept {
    return value == 0 ? 1 : (static_cast<std::size_t>(std::bit_width(value)) + 6) / 7;
}

std::size_t framed_size(ByteView payload) noexcept {
    return varint_size(payload.size()) + payload.size() + kCrcBytes;
}

void frame(ByteView payload, std::uint32_t record_crc, std::uint64_t number, std::uint8_t* to) {
    ByteWriter length;
    length.varint(payload.size());
    to = std::copy(length.data().begin(), length.data().end(), to);
    std::copy(payload.begin(), payload.end(), to);
    store_le(to + payload.size(),
             crc32c({to, payload.size()}, chunk_seed(record_crc, number, payload.size())));
}

}  // namespace

std::uint32_t chunk_seed(std::uint32_t record_crc, std::uint64_t number, std::uint64_t length) noexcept {
    std::array<std::uint8_t, 20> fields;
    store_le(fields.data(), record_crc);
    store_le(fields.data() + 4, number);
    store_le(fields.data() + 12, length);
    return crc32c(fields);
}

std::optional<ChunkFrame> read_frame(ByteView file, std::size_t at) noexcept {
    const std::optional<std::uint64_t> length = try_varint(file, at);
    if (!length || file.size() - at < kCrcBytes || *length > file.size() - at - kCrcBytes)
        return std::nullopt;
    const std::size_t end = at + static_cast<std::size_t>(*length);
    return ChunkFrame{at, end, load_le<std::uint32_t>(file.data() + end)};
}

std::size_t framed_size(std::span<const ByteView> payloads) noexcept {
    std::size_t size = 0;
    for (const ByteView payload : payloads) size += framed_size(payload);
    return size;
}

void frame_chunks(std::span<const ByteView> payloads, std::uint32_t record_crc, std::uint64_t first,
                  std::span<std::uint8_t> out, std::size_t threads) {
    std::vector<std::size_t> places;
    places.reserve(payloads.size());
    std::size_t at = 0;
    for (const ByteView payload : payloads) {
        places.push_back(at);
        at += framed_size(payload);
    }
    parallel_for(payloads.size(), threads,
                 [&](std::size_t i) { frame(payloads[i], record_crc, first + i, out.data() + places[i]); });
}

}  // namespace nncodec
