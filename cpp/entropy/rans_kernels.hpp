// What the rANS kernels of all instruction sets share: tables laid out for coding, and the place they have
// reached.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "entropy/rans_alias.hpp"

namespace nncodec::rans {

inline constexpr std::uint32_t kLowest = 1U << 16;  // states lie in [kLowest, 2^32)

// How the state moves when a symbol is coded.
struct EncodeEntry {
    std::uint64_t reciprocal;  // 2^64 / frequency, rounded up
    std::uint32_t frequency;   // 0: cannot be coded
    std::uint32_t start;       // of its places among its table's slots
};

// A table for vector kernels, prob_bits 12.
struct alignas(64) EncodeVectors {
    std::uint16_t frequency[64];  // of symbols first .. first + 63
    std::uint16_t start[64];
    std::uint16_t first;
};

struct EncodeTables {
    std::vector<EncodeEntry> entries;  // 256 per table
    std::vector<std::uint16_t>
        slots;  // 2^prob_bits per table: the slot of each place; one more, for wide reads
    std::vector<std::uint32_t> packed;   // prob_bits 12: start << 16 | frequency, 256 per table
    std::vector<EncodeVectors> vectors;  // prob_bits 12, if each table's used symbols span at most 64
    std::size_t n_tables = 0;
    unsigned prob_bits = kDefaultProbBits;
};

// A table of at most 64 buckets as vector kernels hold it in registers; prob_bits is 12.
struct alignas(64) SmallTable {
    std::uint16_t bucket[64];  // cut << 8 | alias
    std::uint16_t shift[64];
    std::uint16_t frequency[64];  // of each rank
    std::uint16_t symbol[64];
};

struct DecodeTables {
    std::vector<std::uint32_t>
        slots;                      // prob_bits 12: of each slot, (frequency - 1) << 20 | place << 8 | symbol
    std::vector<AliasTable> alias;  // other prob_bits
    std::vector<SmallTable> small;  // prob_bits 12 and at most 64 buckets
    std::size_t n_tables = 0;
    unsigned prob_bits = kDefaultProbBits;
    unsigned bucket_bits = 5;
};

// How far a decoder has come. A vector kernel goes on as long as it can read whole vectors; the scalar one
// finishes.
struct DecodeProgress {
    const std::uint8_t* words = nullptr;  // next word of the stream
    const std::uint8_t* end = nullptr;
    std::uint8_t* out = nullptr;  // next symbol
    std::size_t row = 0;          // whole rows done
    std::size_t column = 0;       // in that row, a multiple of `lanes`
    alignas(64) std::uint32_t states[kMaxLanes];
};

// Plain pointers for the vector kernels, whose files must not emit inline functions of the standard library:
// the linker might take theirs for everybody. Null contexts are 0 everywhere. prob_bits is 12.
struct DecodeTask {
    const std::uint32_t* slots;
    const SmallTable* small;  // null: some table has more than 64 buckets
    unsigned bucket_bits;
    unsigned lanes;
    std::size_t n;
    std::size_t columns;
    const std::uint8_t* row_context;
    const std::uint8_t* column_context;
};

struct EncodeTask {
    const std::uint32_t* packed;
    const std::uint16_t* slots;
    const EncodeVectors* vectors;  // null: some table spans more than 64 symbols
    unsigned lanes;
    std::size_t n;
    std::size_t columns;
    const std::uint8_t* symbols;
    const std::uint8_t* row_context;
    const std::uint8_t* column_context;
};

// Writes words in the order in which they arise, up to kEncodeSlack of them beyond the last one it counts.
struct EncodeProgress {
    std::uint16_t* words = nullptr;
    alignas(64) std::uint32_t states[kMaxLanes];
};
inline constexpr std::size_t kEncodeSlack = 32;

// Encodes everything; false if a symbol has frequency 0. Only 16, 32 or 64 lanes.
bool encode_avx512(const EncodeTask& task, EncodeProgress& progress) noexcept;

// One row of `count` symbols from progress.column on, in whole steps only; the scalar kernel does the rest of
// the row.
using DecodeRow = void (*)(const DecodeTask& task, std::size_t row_table, std::size_t count,
                           DecodeProgress& progress) noexcept;
void decode_row_avx2(const DecodeTask& task, std::size_t row_table, std::size_t count,
                     DecodeProgress& progress) noexcept;
// task.small is set, task.column_context is not.
void decode_row_neon(const DecodeTask& task, std::size_t row_table, std::size_t count,
                     DecodeProgress& progress) noexcept;

// All rows, as far as whole vectors of words can be read.
void decode_avx512(const DecodeTask& task, DecodeProgress& progress) noexcept;

}  // namespace nncodec::rans
