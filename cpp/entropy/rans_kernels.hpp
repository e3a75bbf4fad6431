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

struct EncodeTables {
    std::vector<EncodeEntry> entries;  // 256 per table
    std::vector<std::uint16_t> slots;  // 2^prob_bits per table: the slot of each place
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

void decode_avx2(const DecodeTask& task, DecodeProgress& progress) noexcept;
void decode_avx512(const DecodeTask& task, DecodeProgress& progress) noexcept;

}  // namespace nncodec::rans
