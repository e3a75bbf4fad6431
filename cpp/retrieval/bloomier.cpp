#include "retrieval/bloomier.hpp"

#include <array>

#include "base/bits.hpp"
#include "base/dispatch.hpp"
#include "entropy/models.hpp"
#include "retrieval/bloomier_kernels.hpp"

namespace nncodec::bloomier {
namespace {

using Places = std::array<std::uint32_t, 3>;

Places places_of(std::uint64_t hash, std::uint32_t third) noexcept {
    return {retrieval::scaled(hash, third), third + retrieval::scaled(retrieval::word_of(hash, 0), third),
            2 * third + retrieval::scaled(retrieval::word_of(hash, 1), third)};
}

// A vertex of the hypergraph: how many edges it has, and the sum of their numbers.
struct Vertex {
    std::uint32_t edges = 0;
    std::uint32_t sum = 0;
};

struct Peeled {
    std::uint32_t edge;
    std::uint32_t vertex;
};

// Edges in the order in which they lose a vertex that no other edge has; all of them, or the graph has a
// core.
std::vector<Peeled> peel(std::span<const Places> edges, std::vector<Vertex>& vertices) {
    std::vector<Peeled> order;
    order.reserve(edges.size());
    const auto take = [&](std::uint32_t vertex) {
        if (vertices[vertex].edges == 1) order.push_back({vertices[vertex].sum, vertex});
    };
    const auto remove = [&](std::size_t at) {
        const auto [edge, vertex] = order[at];
        for (const std::uint32_t v : edges[edge]) {
            --vertices[v].edges;
            vertices[v].sum ^= edge;
            if (v != vertex) take(v);
        }
    };
    // An edge that two of its vertices gave up is in `order` twice: the second has no edge left when its turn
    // comes.
    std::size_t at = 0;
    std::size_t kept = 0;
    for (std::uint32_t vertex = 0; vertex < vertices.size(); ++vertex) {
        take(vertex);
        for (; at < order.size(); ++at) {
            if (vertices[order[at].vertex].edges == 0) continue;
            const Peeled next = order[at];
            remove(at);
            order[kept++] = next;
        }
        order.resize(kept);
        at = kept;
    }
    return order;
}

std::uint32_t cell_of(const Table& table, std::uint32_t place) noexcept {
    const std::size_t at = std::size_t{place} * table.shape.bits;
    std::uint32_t word = 0;
    const std::size_t left = table.data.size() - at / 8;
    std::memcpy(&word, table.data.data() + at / 8, left < sizeof word ? left : sizeof word);
    return word >> at % 8;
}

void hits_scalar(const Scan& scan, std::vector<Hit>& out) {
    const std::uint32_t used = (1U << scan.shape.bits) - 1;
    const auto cell = [&](std::uint32_t place) {
        const std::size_t at = std::size_t{place} * scan.shape.bits;
        return load_le<std::uint32_t>(scan.table + at / 8) >> at % 8;
    };
    for (Key key = scan.first; key < scan.end; ++key) {
        const std::uint64_t hash = retrieval::hash(scan.state, key);
        const auto [a, b, c] = places_of(hash, scan.shape.third);
        const std::uint32_t code = (cell(a) ^ cell(b) ^ cell(c) ^ static_cast<std::uint32_t>(hash)) & used;
        if (code < scan.limit) out.push_back({key, static_cast<std::uint16_t>(code)});
    }
}

HitsKernel kernel() {
#if defined(__x86_64__)
    if (active_isa() == Isa::avx512) return &hits_avx512;
#endif
    return &hits_scalar;
}

// Both directions of the form without zeros.
template <typename Coder>
void code_cells(Coder& coder, std::span<std::uint16_t> cells, unsigned bits) {
    range::BitModel assigned;
    for (std::uint16_t& cell : cells) {
        const bool nonzero = coder.code(cell != 0, assigned.p());
        assigned.update(nonzero, range::BitModel::kMaxLimit);
        cell = nonzero ? static_cast<std::uint16_t>(coder.direct(cell, bits)) : std::uint16_t{0};
        if (coder.status() != Status::ok) return;
    }
}

}  // namespace

void check(const Shape& shape) {
    if (shape.bits < 1 || shape.bits > 16) throw ArgumentError("bits must be 1 to 16");
    if (shape.third > kMaxThird) throw ArgumentError("a third must be at most 2^24 cells");
}

std::optional<Bytes> build(std::span<const Key> keys, std::span<const std::uint16_t> codes,
                           const Shape& shape, std::uint64_t seed) {
    check(shape);
    if (keys.size() != codes.size()) throw ArgumentError("as many codes as keys, please");
    const std::size_t n_cells = std::size_t{shape.third} * 3;
    if (keys.size() > n_cells) return std::nullopt;
    const std::uint64_t state = retrieval::state_of(seed);
    std::vector<Places> edges(keys.size());
    std::vector<Vertex> vertices(n_cells);
    for (std::uint32_t i = 0; i < keys.size(); ++i) {
        edges[i] = places_of(retrieval::hash(state, keys[i]), shape.third);
        for (const std::uint32_t v : edges[i]) {
            ++vertices[v].edges;
            vertices[v].sum ^= i;
        }
    }
    const std::vector<Peeled> order = peel(edges, vertices);
    if (order.size() != keys.size()) return std::nullopt;
    std::vector<std::uint16_t> cells(n_cells);
    for (std::size_t i = order.size(); i-- > 0;) {
        const auto [edge, vertex] = order[i];
        const auto [a, b, c] = edges[edge];
        const std::uint16_t mask = retrieval::mask_of(retrieval::hash(state, keys[edge]), shape.bits);
        cells[vertex] = static_cast<std::uint16_t>(codes[edge] ^ mask ^ cells[a] ^ cells[b] ^ cells[c]);
    }
    Bytes table(table_bytes(shape));
    bitpack(std::span<const std::uint16_t>(cells), shape.bits, table);
    return table;
}

std::uint16_t query(const Table& table, Key key) noexcept {
    if (table.shape.third == 0) return UINT16_MAX;
    const std::uint64_t hash = retrieval::hash(table.state, key);
    const auto [a, b, c] = places_of(hash, table.shape.third);
    const std::uint32_t sum =
        cell_of(table, a) ^ cell_of(table, b) ^ cell_of(table, c) ^ static_cast<std::uint32_t>(hash);
    return retrieval::mask_of(sum, table.shape.bits);
}

void prefetch(const Table& table, Key key) noexcept {
    for (const std::uint32_t place : places_of(retrieval::hash(table.state, key), table.shape.third))
        __builtin_prefetch(table.data.data() + std::size_t{place} * table.shape.bits / 8);
}

void query(const Table& table, std::span<const Key> keys, std::span<std::uint16_t> codes) {
    for (std::size_t i = 0; i < keys.size(); ++i) codes[i] = query(table, keys[i]);
}

void hits(const Table& table, Key first, Key end, std::uint32_t limit, std::vector<Hit>& out) {
    if (table.shape.third == 0) return;
    thread_local Bytes padded;
    padded.assign(table.data.begin(), table.data.end());
    padded.resize(padded.size() + kPadding);
    kernel()({table.shape, table.state, padded.data(), first, end, limit}, out);
}

Bytes shrink(const Table& table) {
    std::vector<std::uint16_t> cells(std::size_t{table.shape.third} * 3);
    nncodec::check(bitunpack(table.data, table.shape.bits, std::span<std::uint16_t>(cells)), "cells");
    Bytes out;
    range::BinaryEncoder coder(out);
    code_cells(coder, cells, table.shape.bits);
    coder.finish();
    return out;
}

Bytes expand(const Shape& shape, ByteView stream) {
    std::vector<std::uint16_t> cells(std::size_t{shape.third} * 3);
    range::BinaryDecoder coder(stream);
    code_cells(coder, cells, shape.bits);
    nncodec::check(coder.finish(), "cells");
    Bytes table(table_bytes(shape));
    bitpack(std::span<const std::uint16_t>(cells), shape.bits, table);
    return table;
}

}  // namespace nncodec::bloomier
