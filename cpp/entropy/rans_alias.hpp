// How the slots of a rANS table are dealt out to its symbols: Walker's alias method. Bytes:
// docs/format.md#slots
//
// Why not intervals: a decoder that has only vector registers finds the symbol of a slot with one look-up and
// one comparison, in a table of 32 or 64 buckets that fits registers, where intervals need a search or 4096
// entries.
#pragma once

#include <array>
#include <bit>
#include <cstdint>
#include <span>

#include "entropy/rans.hpp"

namespace nncodec::rans {

// Bucket b holds the slots [b * width, (b + 1) * width). Its first `cut` slots belong to the symbol of rank b
// (ranks count the symbols that have a frequency, ascending), with places 0 .. cut-1 among that symbol's
// slots; the others to the symbol of rank `alias`, with places (slot % width) + shift, modulo 2^16.
struct AliasTable {
    std::array<std::uint16_t, 256> cut;
    std::array<std::uint16_t, 256> shift;
    std::array<std::uint8_t, 256> alias;
    std::array<std::uint8_t, 256> symbol;      // of each rank
    std::array<std::uint32_t, 256> frequency;  // of each rank, 0 from `ranks` on
    unsigned ranks = 0;
};

// log2 of the number of buckets, one for all tables of a set: at least 5, and enough for the table with most
// symbols.
unsigned bucket_bits_for(std::span<const Frequencies> tables) noexcept;

// Caller ensures: the frequencies sum to 2^prob_bits, and there are at least as many buckets as used symbols.
AliasTable make_alias_table(const Frequencies& table, unsigned bucket_bits) noexcept;

// Throws ArgumentError unless there are 1 to kMaxTables tables, all of the same prob_bits, each a legal one.
void check_tables(std::span<const Frequencies> tables);

}  // namespace nncodec::rans
