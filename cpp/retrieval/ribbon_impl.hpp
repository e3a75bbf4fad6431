// Loops of ribbon tables in plain C++, compiled once per instruction set.
//
// Elimination goes from block to block with the equations whose windows have begun and that no slot has taken
// yet. As in the method of the four Russians, eight columns at a time: find their pivots, tabulate the sums
// of these, and free every equation of all eight with two look-ups.
#pragma once

#include <algorithm>
#include <bit>

#include "retrieval/ribbon_kernels.hpp"

namespace nncodec::ribbon {
namespace {

inline void add(Row& to, const Row& row) noexcept {
    for (unsigned k = 0; k < 8; ++k) to.of[k] ^= row.of[k];
}

// The rows of one block: first those that have a slot, then those that have none.
struct Front {
    Row* rows;
    std::size_t n;
    std::size_t pivots;
    unsigned column[kBlock];  // of each pivot
};

inline unsigned octet(const Row& row, unsigned shift) noexcept {
    return static_cast<unsigned>(row.of[0] >> shift) & 0xFF;
}

// Makes pivots of rows for as many as possible of eight columns; each of these is then set in its pivot alone
// among the new pivots. Returns how many there are.
unsigned find_pivots(Front& front, unsigned shift) noexcept {
    Row* const found = front.rows + front.pivots;
    unsigned* const column = front.column + front.pivots;
    unsigned n = 0;
    for (std::size_t i = front.pivots; i < front.n && n < 8; ++i) {
        unsigned bits = octet(front.rows[i], shift);
        if (bits == 0) continue;
        Row row = front.rows[i];
        for (unsigned k = 0; k < n; ++k) {
            if (bits >> column[k] & 1) add(row, found[k]);
        }
        bits = octet(row, shift);
        front.rows[i] = row;
        if (bits == 0) continue;
        const auto q = static_cast<unsigned>(std::countr_zero(bits));
        for (unsigned k = 0; k < n; ++k) {
            if (octet(found[k], shift) >> q & 1) add(found[k], row);
        }
        front.rows[i] = found[n];
        found[n] = row;
        column[n++] = q;
    }
    return n;
}

// Adds to rows [first, end) the sum of pivots that frees them of the pivots' columns.
void clear(Front& front, std::size_t first, std::size_t end, const Row (&sums)[2][16],
           unsigned shift) noexcept {
    for (Row* row = front.rows + first; row != front.rows + end; ++row) {
        const unsigned bits = octet(*row, shift);
        const Row& low = sums[0][bits & 15];
        const Row& high = sums[1][bits >> 4];
        for (unsigned k = 0; k < 8; ++k) row->of[k] ^= low.of[k] ^ high.of[k];
    }
}

void clear_columns(Front& front, unsigned shift) noexcept {
    const unsigned n = find_pivots(front, shift);
    if (n == 0) return;
    Row of_column[8] = {};
    for (unsigned k = 0; k < n; ++k) of_column[front.column[front.pivots + k]] = front.rows[front.pivots + k];
    Row sums[2][16];
    for (unsigned half = 0; half < 2; ++half) {
        sums[half][0] = Row{};
        for (unsigned bits = 1; bits < 16; ++bits) {
            sums[half][bits] = sums[half][bits & (bits - 1)];
            add(sums[half][bits], of_column[4 * half + static_cast<unsigned>(std::countr_zero(bits))]);
        }
    }
    clear(front, 0, front.pivots, sums, shift);
    clear(front, front.pivots + n, front.n, sums, shift);
    for (unsigned k = 0; k < n; ++k) front.column[front.pivots + k] += shift;
    front.pivots += n;
}

// Moves the rows without a slot to the next block. False if one of them says 0 = 1.
bool carry(Front& front) noexcept {
    std::size_t kept = 0;
    for (std::size_t i = front.pivots; i < front.n; ++i) {
        Row row = front.rows[i];
        std::uint64_t left = 0;
        for (unsigned k = 0; k < retrieval::kMaxWords; ++k) {
            row.of[k] = k + 1 < retrieval::kMaxWords ? row.of[k + 1] : 0;
            left |= row.of[k];
        }
        if (left != 0) {
            front.rows[kept++] = row;
        } else if (row.of[7] != 0) {
            return false;
        }
    }
    front.n = kept;
    front.pivots = 0;
    return true;
}

bool eliminate(const Equations& eq) noexcept {
    const Geometry geometry(eq.shape);
    const std::uint32_t tail = eq.shape.slots % kBlock;
    const unsigned words = std::min(eq.shape.words, geometry.blocks);
    Front front{eq.front.data(), 0, 0, {}};
    std::size_t at = 0;
    for (std::uint32_t block = 0; block < geometry.blocks; ++block) {
        const bool last = block == geometry.last;
        for (const std::size_t end = eq.first[std::min(block, geometry.last) + 1]; at < end; ++at) {
            Row row{};
            for (unsigned k = 0; k < words; ++k) row.of[k] = retrieval::word_of(eq.hashes[at], k);
            if (tail != 0 && last) row.of[words - 1] &= (std::uint64_t{1} << tail) - 1;
            row.of[7] = eq.codes[at];
            front.rows[front.n++] = row;
        }
        // More rows than the slots that they can reach.
        if (front.n > std::size_t{words} * kBlock) return false;
        for (unsigned shift = 0; shift < kBlock; shift += 8) clear_columns(front, shift);
        for (std::size_t i = 0; i < front.pivots; ++i) {
            eq.rows[std::size_t{block} * kBlock + front.column[i]] = front.rows[i];
            eq.occupied[block] |= std::uint64_t{1} << front.column[i];
        }
        if (!carry(front)) return false;
    }
    return front.n == 0;
}

template <unsigned kStride>
void substitute(const Equations& eq) noexcept {
    const auto blocks = static_cast<std::uint32_t>(eq.occupied.size());
    for (std::uint32_t block = blocks; block-- > 0;) {
        const std::uint64_t* const later = eq.solution.data() + std::size_t{block + 1} * kStride;
        const unsigned words = std::min<unsigned>(eq.shape.words, blocks - block);
        std::uint64_t solved[kStride] = {};
        for (std::uint64_t bits = eq.occupied[block]; bits != 0; bits &= bits - 1) {
            const auto p = static_cast<unsigned>(std::countr_zero(bits));
            const Row& row = eq.rows[std::size_t{block} * kBlock + p];
            std::uint64_t sum[kStride] = {};
            for (unsigned k = 1; k < words; ++k) {
                for (unsigned j = 0; j < kStride; ++j)
                    sum[j] ^= row.of[k] & later[std::size_t{k - 1} * kStride + j];
            }
            for (unsigned j = 0; j < kStride; ++j) {
                const auto parity = static_cast<std::uint64_t>(std::popcount(sum[j]));
                solved[j] |= ((parity ^ row.of[7] >> j) & 1) << p;
            }
        }
        std::copy(solved, solved + kStride, eq.solution.data() + std::size_t{block} * kStride);
    }
}

bool solve(const Equations& eq) noexcept {
    if (!eliminate(eq)) return false;
    stride_of(eq.shape.bits) == 8 ? substitute<8>(eq) : substitute<16>(eq);
    return true;
}

inline constexpr unsigned kBatch = 64;

// Hashes of consecutive keys, by what is needed of them.
struct Batch {
    alignas(64) std::uint64_t hash[kBatch];
    alignas(64) std::uint64_t word[retrieval::kMaxWords][kBatch];
    alignas(64) std::uint32_t block[kBatch];

    void fill(const Scan& scan, const Geometry& geometry, Key first) noexcept {
        for (unsigned i = 0; i < kBatch; ++i) hash[i] = retrieval::hash(scan.state, first + i);
        for (unsigned i = 0; i < kBatch; ++i) block[i] = geometry.block(hash[i]);
        for (unsigned k = 0; k < scan.shape.words; ++k) {
            for (unsigned i = 0; i < kBatch; ++i) word[k][i] = retrieval::word_of(hash[i], k);
        }
    }
};

// Four bits of a code after the other, the highest first: most positions are no key and end after the first
// four.
[[maybe_unused]] void hits_by_bits(const Scan& scan, std::vector<Hit>& out) {
    constexpr unsigned kAtOnce = 4;
    const Geometry geometry(scan.shape);
    const unsigned stride = stride_of(scan.shape.bits);
    const auto low = static_cast<unsigned>(std::bit_width(scan.limit - 1));
    Batch batch;
    for (Key first = scan.first; first < scan.end; first += kBatch) {
        batch.fill(scan, geometry, first);
        const unsigned n = std::min<Key>(kBatch, scan.end - first);
        for (unsigned i = 0; i < n; ++i) {
            const std::uint64_t* const window = scan.table + std::size_t{batch.block[i]} * stride;
            std::uint32_t code = 0;
            unsigned from = scan.shape.bits;
            do {
                from = from > kAtOnce ? from - kAtOnce : 0;
                std::uint64_t sum[kAtOnce] = {};
                for (unsigned k = 0; k < scan.shape.words; ++k) {
                    for (unsigned j = 0; j < kAtOnce; ++j)
                        sum[j] ^= batch.word[k][i] & window[std::size_t{k} * stride + from + j];
                }
                std::uint32_t bits = 0;
                for (unsigned j = 0; j < kAtOnce; ++j)
                    bits |= (static_cast<unsigned>(std::popcount(sum[j])) & 1U) << j;
                bits ^= static_cast<std::uint32_t>(batch.hash[i] >> from) & ((1U << kAtOnce) - 1);
                code |= bits << from;
            } while (from > 0 && code >> std::max(low, from) == 0);
            code &= (1U << scan.shape.bits) - 1;  // of fewer than four bits
            if (from == 0 && code < scan.limit) out.push_back({first + i, static_cast<std::uint16_t>(code)});
        }
    }
}

}  // namespace
}  // namespace nncodec::ribbon
