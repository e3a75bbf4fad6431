// Ribbon retrieval: a map from keys to codes of 1 to 16 bits in barely more bits than the codes themselves;
// any other key reads as a random code. Bytes: docs/format.md#ribbon-table
//
// Each key is a linear equation over GF(2) whose unknowns are slots of `bits` bits in a window of `words`
// blocks of 64 slots (Dillinger & Walzer, 2021). What is particular here: windows begin at whole blocks, so a
// look-up shifts nothing; and the window lies around a uniformly random slot and is moved inside at both
// ends. So the first windows have more keys than slots, and the surplus, about half a window, is carried to
// the end: fluctuations in either direction waste no slot, and a few slots above the number of keys are
// enough.
//
// One table is meant for at most some thousands of keys: the surplus varies as sqrt(keys) / 2.
#pragma once

#include <optional>
#include <span>
#include <vector>

#include "base/bytes.hpp"
#include "retrieval/retrieval_hash.hpp"

namespace nncodec::ribbon {

using retrieval::Hit;
using retrieval::Key;

inline constexpr unsigned kBlock = 64;

struct Shape {
    std::uint32_t slots = 0;  // a multiple of 8, below 2^24; 0: no key at all, nothing may be looked up
    unsigned bits = 1;        // of a code, 1 .. 16
    unsigned words = 4;       // of a window, 1 .. kMaxWords
};

inline constexpr std::uint32_t kMaxSlots = 1U << 24;

constexpr std::size_t table_bytes(const Shape& shape) noexcept {
    return std::size_t{shape.slots} / 8 * shape.bits;
}

// Throws ArgumentError for a shape out of these bounds.
void check(const Shape& shape);

// A table in someone else's memory: data.size() == table_bytes(shape).
struct Table {
    Shape shape;
    std::uint64_t state = 0;  // retrieval::state_of(seed)
    ByteView data;
};

// Tables on which all keys give their codes, or none if the equations contradict each other: then try another
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

}  // namespace nncodec::ribbon
