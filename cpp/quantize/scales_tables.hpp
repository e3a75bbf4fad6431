// Entropy tables for scale classes: neighbouring contexts share one where a table of their own costs more
// than it brings. Bytes: docs/format.md#class-tables
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "base/bytes.hpp"
#include "entropy/rans.hpp"

namespace nncodec::scales {

inline constexpr std::size_t kSymbols = 256;

struct ClassTables {
    std::vector<std::uint8_t> table_of;     // of each context; never falls, never skips a table
    std::vector<rans::Frequencies> tables;  // at least one

    // One table per context, as the entropy coder wants them.
    std::vector<rans::Frequencies> per_context() const;
};

// Bits of the order-0 code of these counts, in units of 2^-16. Integer arithmetic; fewer than 2^40 counts.
std::uint64_t entropy_bits(std::span<const std::uint64_t> counts) noexcept;

// Merges neighbouring contexts, cheapest pair first, for as long as that saves bits. counts: kSymbols per
// context. `most`: no more tables than this (at least 1).
ClassTables group_contexts(std::span<const std::uint64_t> counts, std::size_t most);

// What these counts cost under the tables, in bits.
double cost_in_bits(std::span<const std::uint64_t> counts, const ClassTables& tables) noexcept;

void write_class_tables(ByteWriter& out, const ClassTables& tables);
ClassTables read_class_tables(ByteReader& in, std::size_t contexts);

}  // namespace nncodec::scales
