// Hashes of the retrieval structures. Bytes: docs/format.md#retrieval-hash
//
// A key is hashed once to 64 bits; everything that a table needs (places, coefficients, mask) follows from
// these by products of 32-bit halves, which every vector unit has.
#pragma once

#include <array>
#include <bit>
#include <cstdint>

namespace nncodec::retrieval {

// A key is a position within a chunk.
using Key = std::uint32_t;

// What a table holds for a position: found by a scan of all positions for those below a limit.
struct Hit {
    Key position;
    std::uint16_t code;
};

constexpr std::uint64_t mix(std::uint64_t x) noexcept {
    x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9U;
    x = (x ^ (x >> 27)) * 0x94D049BB133111EBU;
    return x ^ (x >> 31);
}

constexpr std::uint64_t state_of(std::uint64_t seed) noexcept {
    return mix(seed + 0x9E3779B97F4A7C15U);
}

constexpr std::uint64_t hash(std::uint64_t state, Key key) noexcept {
    return mix(state ^ key);
}

// The high half of a hash scaled to [0, n).
constexpr std::uint32_t scaled(std::uint64_t hash, std::uint32_t n) noexcept {
    return static_cast<std::uint32_t>(((hash >> 32) * n) >> 32);
}

// The mask of a key: without it, a key whose cells are all 0 would read as code 0.
constexpr std::uint16_t mask_of(std::uint64_t hash, unsigned bits) noexcept {
    return static_cast<std::uint16_t>(hash & ((1U << bits) - 1));
}

inline constexpr unsigned kMaxWords = 7;

struct Factors {
    std::uint32_t low, high;
};

inline constexpr std::array<Factors, kMaxWords> kFactors{{{0x9E3779B1U, 0x85EBCA6BU},
                                                          {0xC2B2AE35U, 0x27D4EB2FU},
                                                          {0x165667B1U, 0xCC9E2D51U},
                                                          {0x1B873593U, 0xE6546B65U},
                                                          {0xD3A2646DU, 0xFD7046C5U},
                                                          {0xB55A4F09U, 0x8F1BBCDDU},
                                                          {0xA3B195F1U, 0x6C8E9CF5U}}};

// The k-th further word of 64 bits.
constexpr std::uint64_t word_of(std::uint64_t hash, unsigned k) noexcept {
    return (hash & 0xFFFFFFFFU) * kFactors[k].low ^ std::rotl((hash >> 32) * kFactors[k].high, 32);
}

}  // namespace nncodec::retrieval
