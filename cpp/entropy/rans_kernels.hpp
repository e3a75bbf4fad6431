// What the rANS kernels of all instruction sets share: tables laid out for coding, and the place they have
// reached.
#pragma once

#include <cstddef>
#include <cstdint>
#include <mutex>
#include <span>
#include <vector>

#include "entropy/rans_alias.hpp"

namespace nncodec::rans {

inline constexpr std::uint32_t kLowest = 1U << 16;  // states lie in [kLowest, 2^32)

// How the state moves when a symbol is coded.
struct EncodeEntry {
    std::uint64_t reciprocal;  // 2^(32 + prob_bits) / frequency, rounded up
    std::uint32_t frequency;   // 0: cannot be coded
    std::uint32_t start;       // of its places among its table's slots
};

// A table for vector kernels, prob_bits 12.
struct alignas(64) EncodeVectors {
    std::uint8_t rank[256];       // of each symbol; kNoRank if it has no frequency
    std::uint16_t frequency[64];  // of each rank, 0 for kNoRank
    std::uint16_t start[64];
};
inline constexpr std::uint8_t kNoRank = 63;

struct EncodeTables {
    std::vector<EncodeEntry> entries;  // 256 per table
    std::vector<std::uint16_t>
        slots;  // 2^prob_bits per table: the slot of each place; one more, for wide reads
    std::vector<std::uint32_t> packed;   // prob_bits 12: start << 16 | frequency, 256 per table
    std::vector<std::uint32_t> divisor;  // prob_bits 12: (2^32 - 1) / frequency, 256 per table
    std::vector<EncodeVectors> vectors;  // prob_bits 12, if each table has at most 63 used symbols
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

// The slots of all tables written out, 2^12 per table: worth it for long streams only, so built when a kernel
// first asks.
class SlotTables {
  public:
    // Caller ensures that `alias` outlives this and does not change.
    SlotTables(const std::vector<AliasTable>& alias, unsigned bucket_bits)
        : alias_(alias), bucket_bits_(bucket_bits) {}

    // For gathers: (frequency - 1) << 20 | place << 8 | symbol.
    const std::uint32_t* packed() const;

    // For scalar code.
    struct Plain {
        const std::uint16_t* frequencies;
        const std::uint16_t* places;
        const std::uint8_t* symbols;
    };
    Plain plain() const;

  private:
    const std::vector<AliasTable>& alias_;
    unsigned bucket_bits_;
    mutable std::once_flag packed_once_;
    mutable std::once_flag plain_once_;
    mutable std::vector<std::uint32_t> packed_;
    mutable std::vector<std::uint16_t> frequencies_;
    mutable std::vector<std::uint16_t> places_;
    mutable std::vector<std::uint8_t> symbols_;
};

struct DecodeTables {
    // Throws ArgumentError as Decoder's constructor does.
    explicit DecodeTables(std::span<const Frequencies> tables);

    unsigned prob_bits;
    unsigned bucket_bits;
    std::vector<AliasTable> alias;
    std::vector<SmallTable> small;  // prob_bits 12 and at most 64 buckets
    SlotTables slots;               // prob_bits 12
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
    const std::uint32_t* slots;  // SlotTables::packed(), where the kernel gathers
    const SmallTable* small;     // null: some table has more than 64 buckets
    unsigned bucket_bits;
    unsigned lanes;
    std::size_t n;
    std::size_t columns;
    const std::uint8_t* row_context;
    const std::uint8_t* column_context;
};

struct EncodeTask {
    const std::uint32_t* packed;
    const std::uint32_t* divisor;
    const std::uint16_t* slots;
    const EncodeVectors* vectors;  // null: some table has more symbols than ranks
    unsigned lanes;
    std::size_t n;
    std::size_t columns;
    const std::uint8_t* symbols;
    const std::uint8_t* row_context;
    const std::uint8_t* column_context;
};

// An encoder goes backwards, and so do its words: each lies before the last one. Vector kernels write up to
// kEncodeSlack words before the last one that they count.
struct EncodeProgress {
    std::uint16_t* words = nullptr;
    alignas(64) std::uint32_t states[kMaxLanes];
};
inline constexpr std::size_t kEncodeSlack = 32;

// Encodes everything; false if a symbol has frequency 0. Only 16, 32 or 64 lanes.
bool encode_avx512(const EncodeTask& task, EncodeProgress& progress) noexcept;

// The first `steps` steps of all lanes of the row that starts at symbol `first`, from the last to the first;
// false if a symbol has frequency 0. Only 16, 32 or 64 lanes.
bool encode_steps_avx2(const EncodeTask& task, std::size_t row_table, std::size_t first, std::size_t steps,
                       EncodeProgress& progress) noexcept;

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
