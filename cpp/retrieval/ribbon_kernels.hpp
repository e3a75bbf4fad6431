// The loops of ribbon tables that each instruction set fills; used by ribbon.cpp alone.
#pragma once

#include "retrieval/ribbon.hpp"

namespace nncodec::ribbon {

// Where the window of a key begins.
struct Geometry {
    std::uint32_t slots, half, last, blocks;  // `last`: the last block where a window may begin

    explicit constexpr Geometry(const Shape& shape) noexcept
        : slots(shape.slots),
          half(kBlock / 2 * (shape.words - 1)),
          last((shape.slots + kBlock - 1) / kBlock > shape.words
                   ? (shape.slots + kBlock - 1) / kBlock - shape.words
                   : 0),
          blocks((shape.slots + kBlock - 1) / kBlock) {}

    constexpr std::uint32_t block(std::uint64_t hash) const noexcept {
        const std::uint32_t slot = retrieval::scaled(hash, slots);
        const std::uint32_t block = (slot > half ? slot - half : 0) / kBlock;
        return block < last ? block : last;
    }
};

// One equation: coefficients of the slots of `words` blocks, and the code in the last word. A cache line.
struct alignas(64) Row {
    std::uint64_t of[8];
};

// An unpacked table: stride (8 or 16) words a block, one per bit of a code; zeros beyond the slots.
constexpr unsigned stride_of(unsigned bits) noexcept {
    return bits <= 8 ? 8 : 16;
}

struct Equations {
    Shape shape;
    std::span<const std::uint64_t> hashes;  // of the keys, ordered by block
    std::span<const std::uint16_t> codes;   // in that order, masks taken off
    std::span<const std::uint32_t> first;   // of each block, and the end
    std::span<Row> front;                   // one per key
    std::span<Row> rows;                    // one per slot
    std::span<std::uint64_t> occupied;      // one bit per slot
    std::span<std::uint64_t> solution;      // unpacked
};

struct Scan {
    Shape shape;
    std::uint64_t state;
    const std::uint64_t* table;  // unpacked, `words` blocks at least
    Key first, end;
    std::uint32_t limit;
};

struct Kernels {
    // False if the equations contradict each other.
    bool (*solve)(const Equations& equations) noexcept;
    void (*hits)(const Scan& scan, std::vector<Hit>& out);
};

extern const Kernels kScalarKernels;
#if defined(__x86_64__)
extern const Kernels kAvx2Kernels;
extern const Kernels kAvx512Kernels;
#endif

}  // namespace nncodec::ribbon
