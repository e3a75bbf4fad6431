// Bloomier filter: the retrieval structure of Weightless (Reagen et al., 2018), after Chazelle et al. (2004).
// A map from keys to codes of 1 to 16 bits; any other key reads as a random code. Bytes:
// docs/format.md#bloomier-table
//
// A key's code is the sum over GF(2) of three cells, one in each third of the table, and of a mask of its
// own. It is built by peeling the hypergraph whose edges are the keys, so about 1.23 cells a key are needed:
// a fifth of them is never assigned and stays 0. The packed form leaves out the cells that are 0.
#pragma once

#include <optional>
#include <span>
#include <vector>

#include "base/bytes.hpp"
#include "retrieval/retrieval_hash.hpp"

namespace nncodec::bloomier {

using retrieval::Hit;
using retrieval::Key;

struct Shape {
    std::uint32_t third = 0;  // cells in a third of the table, below 2^24; 0: no key at all
    unsigned bits = 1;        // of a code and of a cell, 1 .. 16
};

inline constexpr std::uint32_t kMaxThird = 1U << 24;

// Throws ArgumentError for a shape out of these bounds.
void check(const Shape& shape);

constexpr std::size_t table_bytes(const Shape& shape) noexcept {
    return (std::size_t{shape.third} * 3 * shape.bits + 7) / 8;
}

// A table in someone else's memory: data.size() == table_bytes(shape). Bits beyond the cells are never looked
// at.
struct Table {
    Shape shape;
    std::uint64_t state = 0;  // retrieval::state_of(seed)
    ByteView data;
};

// A table in which all keys have their codes, or none if the hypergraph cannot be peeled: then try another
// seed. Keys are distinct; codes lie below 2^bits.
std::optional<Bytes> build(std::span<const Key> keys, std::span<const std::uint16_t> codes,
                           const Shape& shape, std::uint64_t seed);

// The codes of any keys.
void query(const Table& table, std::span<const Key> keys, std::span<std::uint16_t> codes);
std::uint16_t query(const Table& table, Key key) noexcept;

// Asks for the cache lines that a query of this key will read.
void prefetch(const Table& table, Key key) noexcept;

// Appends the positions among [first, end) whose code is below `limit`, in order.
void hits(const Table& table, Key first, Key end, std::uint32_t limit, std::vector<Hit>& out);

// The form without the cells that are 0, and back. The stream is untrusted: throws DecodeError.
Bytes shrink(const Table& table);
Bytes expand(const Shape& shape, ByteView stream);

}  // namespace nncodec::bloomier
