// What the Viterbi kernels of all instruction sets share: a plan made once per quantiser, rows of 32 lanes,
// and the two loops that each instruction set writes in its own way. All arithmetic here is on integers but
// the scaling of the values (one float32 product, one conversion), so all give the same.
//
// Why 16 bits are enough for path metrics: in units of step^2 / 512 a branch costs at most kMaxBranch more
// than the cheapest branch of its sample, and any state can be reached from any other in log2(states) <= 10
// samples, so metrics of the states of a lane never lie more than 10 * kMaxBranch = 36000 apart. Every 8
// samples the least of them is taken off; in between they grow by at most 28800 more. The states that the
// start leaves out begin at kUnreached, above whatever a true path can have cost by the time it gets there.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "quantize/trellis.hpp"

namespace nncodec::trellis {

inline constexpr std::size_t kNormaliseEvery = 8;
inline constexpr int kMaxBranch = 3600;
inline constexpr std::uint16_t kUnreached = 10 * kMaxBranch + 1;
inline constexpr std::uint32_t kMaxRate = 32767;  // with the greatest squared distance still below 2^16
inline constexpr int kFraction = 8;               // places are in 1/256 step
inline constexpr int kDistanceShift = 7;          // (1/256 step)^2 to step^2 / 512
static_assert(kUnreached + kNormaliseEvery * kMaxBranch < 65536);

// Two states that lead to the same two. Both belong to union (first & 1).
//   cost[to_even] = min(first + even, second + odd), cost[to_odd] = min(second + even, first + odd)
// where "even" and "odd" are the branch metrics of that union's levels of that parity.
struct Butterfly {
    std::uint16_t first, second, to_even, to_odd;
};

struct Plan {
    Alphabet alphabet;
    unsigned states;
    const Butterfly* butterflies;  // states / 2, those of union 0 first
    const std::uint16_t* rates;    // [context][union][width]
    std::uint32_t width;
    int radius;
    float scale;     // 1 / step
    float limit;     // values times scale are clamped to +-limit
    unsigned lanes;  // of a row that are in use: kernels may leave branches of the others as they were
};

// One sample of each of 32 lanes.
struct alignas(64) BranchRow {
    std::uint16_t metric[2][2][kLaneGroup];  // [union][parity]: of the best level of that kind
    std::int16_t below[kLaneGroup];          // floor(value / step)
    std::uint8_t upper[kLaneGroup];  // bit 2 * union + parity: the greater of the two candidates is better
};

// Of one row: the unions and parities of its levels, bit j for lane j.
struct PathStep {
    std::uint32_t unions = 0;
    std::uint32_t odd = 0;
};

struct Kernels {
    // x, contexts: rows of 32.
    void (*branch_metrics)(const Plan& plan, const float* x, const std::uint8_t* contexts, std::size_t rows,
                           BranchRow* out);
    // Advances metrics (states x 32, in `from`; `to` is scratch; where they end alternates with each row).
    // Sample first_row + i of the lane is row i. decisions: rows x states, bit j: lane j came by an odd
    // level.
    void (*add_compare_select)(const Plan& plan, const BranchRow* branches, std::size_t first_row,
                               std::size_t rows, std::uint16_t* from, std::uint16_t* to,
                               std::uint32_t* decisions);
    // Levels of a row, and their unions as bytes.
    void (*levels)(Alphabet alphabet, PathStep step, const std::int16_t* below, const std::uint8_t* upper,
                   std::int16_t* levels, std::uint8_t* unions);
};

extern const Kernels kScalarKernels;
#if defined(__x86_64__)
extern const Kernels kAvx2Kernels;
extern const Kernels kAvx512Kernels;
#elif defined(__aarch64__)
extern const Kernels kNeonKernels;
#endif

// Costs in 1/256 bit times lambda, in the units of the branch metrics.
std::vector<std::uint16_t> rates_of(std::span<const std::uint16_t> costs, std::uint32_t lambda);

// Values in steps are clamped so that all four candidates of both unions lie within the radius.
constexpr float limit_of(int radius) noexcept {
    return static_cast<float>(2 * radius - 4);
}

// The greatest level of a union whose point is at or below the grid point `below`.
constexpr int level_at_or_below(Alphabet alphabet, unsigned union_index, int below) noexcept {
    if (union_index == 0) return below >> 1;
    if (alphabet == Alphabet::plain) return (below - 1) >> 1;
    return (below >= 0 ? below + 1 : below - 1) >> 1;
}

// The plain loop of Kernels::levels, for each instruction set to compile on its own (so `static`).
template <unsigned kLanes = kLaneGroup>
static void levels_of_row(Alphabet alphabet, PathStep step, const std::int16_t* below,
                          const std::uint8_t* upper, std::int16_t* levels, std::uint8_t* unions) {
    for (unsigned lane = 0; lane < kLanes; ++lane) {
        const unsigned u = step.unions >> lane & 1;
        const unsigned odd = step.odd >> lane & 1;
        const int at = below[lane];
        const int even_floor = at >> 1;
        const int odd_floor = level_at_or_below(alphabet, 1, at);
        const int floor = u != 0 ? odd_floor : even_floor;
        const int lower = floor - static_cast<int>((static_cast<unsigned>(floor) ^ odd) & 1);
        levels[lane] =
            static_cast<std::int16_t>(lower + 2 * static_cast<int>(upper[lane] >> (2 * u + odd) & 1U));
        unions[lane] = static_cast<std::uint8_t>(u);
    }
}

// Those of the active instruction set.
const Kernels& active_kernels();

}  // namespace nncodec::trellis
