#include "retrieval/ribbon.hpp"

#include <algorithm>
#include <string>

#include "base/dispatch.hpp"
#include "retrieval/ribbon_impl.hpp"

namespace nncodec::ribbon {

constinit const Kernels kScalarKernels{&solve, &hits_by_bits};

namespace {

const Kernels& kernels() {
#if defined(__x86_64__)
    if (active_isa() == Isa::avx512) return kAvx512Kernels;
    if (active_isa() == Isa::avx2) return kAvx2Kernels;
#endif
    return kScalarKernels;
}

// Blocks hold the words of their bits one after the other; of the last block only the bytes that have slots.
Bytes pack(const Shape& shape, std::span<const std::uint64_t> unpacked) {
    Bytes out(table_bytes(shape));
    const unsigned stride = stride_of(shape.bits);
    std::uint8_t* to = out.data();
    for (std::uint32_t slot = 0; slot < shape.slots; slot += kBlock) {
        const std::size_t n_bytes = std::min(kBlock, shape.slots - slot) / 8;
        for (unsigned j = 0; j < shape.bits; ++j, to += n_bytes)
            std::memcpy(to, unpacked.data() + std::size_t{slot} / kBlock * stride + j, n_bytes);
    }
    return out;
}

// Zeros beyond the slots, so that a window of `words` blocks can be read from any block where one may begin.
// Returns the first word, which lies at the beginning of a cache line.
const std::uint64_t* unpack(const Table& table, std::vector<std::uint64_t>& memory) {
    const Geometry geometry(table.shape);
    const unsigned stride = stride_of(table.shape.bits);
    const unsigned bits = table.shape.bits;
    memory.assign(std::size_t{geometry.last + table.shape.words} * stride + 7, 0);
    std::uint64_t* const out =
        memory.data() + (64 - reinterpret_cast<std::uintptr_t>(memory.data()) % 64) % 64 / 8;
    const std::uint8_t* from = table.data.data();
    for (std::uint32_t slot = 0; slot < table.shape.slots; slot += kBlock) {
        const std::size_t n_bytes = std::min(kBlock, table.shape.slots - slot) / 8;
        std::uint64_t* const to = out + std::size_t{slot} / kBlock * stride;
        for (unsigned j = 0; j < bits; ++j, from += n_bytes) std::memcpy(to + j, from, n_bytes);
    }
    return out;
}

}  // namespace

void check(const Shape& shape) {
    if (shape.bits < 1 || shape.bits > 16) throw ArgumentError("bits must be 1 to 16");
    if (shape.words < 1 || shape.words > retrieval::kMaxWords)
        throw ArgumentError("words must be 1 to " + std::to_string(retrieval::kMaxWords));
    if (shape.slots % 8 != 0 || shape.slots > kMaxSlots)
        throw ArgumentError("slots must be a multiple of 8, at most 2^24");
}

std::optional<Bytes> build(std::span<const Key> keys, std::span<const std::uint16_t> codes,
                           const Shape& shape, std::uint64_t seed) {
    check(shape);
    if (keys.size() != codes.size()) throw ArgumentError("as many codes as keys, please");
    if (keys.empty()) return Bytes(table_bytes(shape));
    if (shape.slots == 0) return std::nullopt;
    const Geometry geometry(shape);
    const std::uint64_t state = retrieval::state_of(seed);

    thread_local std::vector<std::uint64_t> hashes, sorted, occupied, solution;
    thread_local std::vector<std::uint16_t> sorted_codes;
    thread_local std::vector<std::uint32_t> first;
    thread_local std::vector<Row> rows, front;
    hashes.resize(keys.size());
    sorted.resize(keys.size());
    sorted_codes.resize(keys.size());
    first.assign(std::size_t{geometry.last} + 2, 0);
    for (std::size_t i = 0; i < keys.size(); ++i) {
        hashes[i] = retrieval::hash(state, keys[i]);
        ++first[geometry.block(hashes[i]) + 1];
    }
    for (std::size_t b = 1; b < first.size(); ++b) first[b] += first[b - 1];
    std::vector<std::uint32_t> next(first.begin(), first.end() - 1);
    for (std::size_t i = 0; i < keys.size(); ++i) {
        const std::uint32_t at = next[geometry.block(hashes[i])]++;
        sorted[at] = hashes[i];
        sorted_codes[at] = codes[i] ^ retrieval::mask_of(hashes[i], shape.bits);
    }
    rows.resize(std::size_t{geometry.blocks} * kBlock);
    front.resize(keys.size());
    occupied.assign(geometry.blocks, 0);
    const std::size_t stride = stride_of(shape.bits);
    solution.assign((std::size_t{geometry.blocks} + shape.words) * stride, 0);
    if (!kernels().solve({shape, sorted, sorted_codes, first, front, rows, occupied, solution}))
        return std::nullopt;
    return pack(shape, solution);
}

std::uint16_t query(const Table& table, Key key) noexcept {
    const Shape& shape = table.shape;
    if (shape.slots == 0) return UINT16_MAX;
    const Geometry geometry(shape);
    const std::uint64_t hash = retrieval::hash(table.state, key);
    const std::uint32_t block = geometry.block(hash);
    const unsigned words = std::min(shape.words, geometry.blocks);
    const std::uint8_t* from = table.data.data() + std::size_t{block} * shape.bits * 8;
    std::uint64_t sum[16] = {};
    for (unsigned k = 0; k < words; ++k) {
        const std::uint64_t row = retrieval::word_of(hash, k);
        const std::size_t n_bytes = std::min(kBlock, shape.slots - (block + k) * kBlock) / 8;
        for (unsigned j = 0; j < shape.bits; ++j, from += n_bytes) {
            std::uint64_t slots = 0;
            if (n_bytes == 8) {
                slots = load_le<std::uint64_t>(from);
            } else {
                std::memcpy(&slots, from, n_bytes);
            }
            sum[j] ^= row & slots;
        }
    }
    std::uint32_t code = retrieval::mask_of(hash, shape.bits);
    for (unsigned j = 0; j < shape.bits; ++j)
        code ^= (static_cast<unsigned>(std::popcount(sum[j])) & 1U) << j;
    return static_cast<std::uint16_t>(code);
}

void prefetch(const Table& table, Key key) noexcept {
    const Geometry geometry(table.shape);
    const std::size_t line = 64;
    const std::size_t block_bytes = std::size_t{table.shape.bits} * 8;
    const std::size_t from = geometry.block(retrieval::hash(table.state, key)) * block_bytes;
    const std::size_t end = std::min(from + table.shape.words * block_bytes, table.data.size());
    for (std::size_t at = from; at < end; at += line) __builtin_prefetch(table.data.data() + at);
}

void query(const Table& table, std::span<const Key> keys, std::span<std::uint16_t> codes) {
    for (std::size_t i = 0; i < keys.size(); ++i) codes[i] = query(table, keys[i]);
}

void hits(const Table& table, Key first, Key end, std::uint32_t limit, std::vector<Hit>& out) {
    if (table.shape.slots == 0 || limit == 0) return;
    thread_local std::vector<std::uint64_t> memory;
    kernels().hits({table.shape, table.state, unpack(table, memory), first, end, limit}, out);
}

}  // namespace nncodec::ribbon
