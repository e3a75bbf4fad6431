#include "codecs/chunk_frames.hpp"

#include <algorithm>
#include <array>
#include <bit>
#include <functional>
#include <utility>

#include "base/crc32c.hpp"

namespace nncodec {
namespace {

constexpr std::size_t kCrcBytes = 4;

std::size_t varint_size(std::uint64_t value) noexcept {
    return value == 0 ? 1 : (static_cast<std::size_t>(std::bit_width(value)) + 6) / 7;
}

std::size_t written_size(const Piece& piece) noexcept {
    const std::size_t size = piece.bytes.size();
    return piece.chunk ? varint_size(size) + size + kCrcBytes : size;
}

void write(const Piece& piece, std::uint8_t* to) {
    const ByteView bytes = piece.bytes;
    if (piece.chunk) {
        ByteWriter length;
        length.varint(bytes.size());
        to = std::copy(length.data().begin(), length.data().end(), to);
    }
    std::copy(bytes.begin(), bytes.end(), to);
    if (!piece.chunk) return;
    const std::uint32_t seed = chunk_seed(piece.record_crc, piece.number, bytes.size());
    store_le(to + bytes.size(), crc32c({to, bytes.size()}, seed));
}

// Writes the i-th piece to its place.
std::function<void(std::size_t)> writer_of(std::vector<Piece> pieces, std::span<std::uint8_t> out) {
    std::vector<std::size_t> places;
    places.reserve(pieces.size());
    std::size_t at = 0;
    for (const Piece& piece : pieces) {
        places.push_back(at);
        at += written_size(piece);
    }
    return [list = std::move(pieces), at_of = std::move(places), out](std::size_t i) {
        write(list[i], out.data() + at_of[i]);
    };
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

std::size_t written_size(std::span<const Piece> pieces) noexcept {
    std::size_t size = 0;
    for (const Piece& piece : pieces) size += written_size(piece);
    return size;
}

// In braces, so that the pieces are counted before they are moved.
StartedPieces::StartedPieces(std::vector<Piece> pieces, std::span<std::uint8_t> out, std::size_t threads)
    : started_{pieces.size(), threads, writer_of(std::move(pieces), out)} {}

}  // namespace nncodec
