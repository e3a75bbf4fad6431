// A run of steps of all lanes, for the kernels of all instruction sets. Plain pointers only: the files of
// vector kernels must not emit inline functions of the standard library.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace nncodec::rans {

inline constexpr unsigned kBlockLanes = 64;
inline constexpr std::size_t kBlockSteps = 16;

// A bucket of the alias method: low half own symbol, high half the other's. In each: the symbol in bits 0 to
// 7, frequency - 1 in bits 8 to 19; above that `cut` (own) or `shift` modulo 2^12 (the other's).
using Bucket = std::uint64_t;

// The two tables of a context, of at most 64 buckets, as vector kernels hold them in registers. Those of
// union u begin at u * 2^bucket_bits.
struct alignas(64) PairTable {
    std::uint16_t bucket[128];  // cut << 8 | alias; with 32 buckets, 32 is added to the alias in union 1
    std::uint16_t shift[128];
    std::uint16_t frequency[128];  // of each rank; bit 15: its symbol is odd
    std::int16_t value[128];       // of each rank
};

struct TrellisPair {
    std::size_t first_bucket = 0;  // of its two tables, one after the other
    unsigned bucket_bits = 5;
};

struct TrellisTables {
    std::vector<Bucket> buckets;
    std::vector<TrellisPair> pairs;
    std::vector<PairTable> small;      // of each pair; empty if no pair has at most 64 buckets
    std::vector<std::int32_t> values;  // 256 per table
    std::size_t n_tables = 0;
    bool same_bits = true;  // all pairs have as many buckets
};

struct TrellisBlock {
    const TrellisPair* pairs;
    const Bucket* buckets;
    const PairTable* small;
    const std::int32_t* values;
    std::uint16_t h0;  // h0 >> 1 and h1 >> 1 of the code
    std::uint16_t h1;
    const std::uint8_t* words;  // next word of the stream
    const std::uint8_t* end;
    const std::uint8_t* contexts;  // of step i, lane j: contexts[i * context_stride + j]; whole vectors are
                                   // read, as they are written
    std::size_t context_stride;
    std::int16_t* out;  // whole vectors are written: up to the next power of two of lanes, at least 8
    std::size_t out_stride;
    alignas(64) std::uint32_t rans[kBlockLanes];
    alignas(64) std::uint16_t state[kBlockLanes];  // of the trellis
};

// Decodes `steps` steps of the first `lanes` lanes. False if the stream ends too soon.
bool decode_block_scalar(TrellisBlock& block, std::size_t steps, unsigned lanes) noexcept;
// The same as far as whole vectors of words can be read, for pairs that all have as many buckets; returns the
// steps done.
std::size_t decode_block_avx2(TrellisBlock& block, std::size_t steps, unsigned lanes) noexcept;
std::size_t decode_block_avx512(TrellisBlock& block, std::size_t steps, unsigned lanes) noexcept;
// The same for 16, 32 or 64 lanes, as far as all lanes of a step have one context, and that has at most 64
// buckets.
std::size_t decode_alike_avx512(TrellisBlock& block, std::size_t steps, unsigned lanes) noexcept;

}  // namespace nncodec::rans
