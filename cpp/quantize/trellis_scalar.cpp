// The Viterbi loops in plain C++: what the other instruction sets must equal.
#include <algorithm>
#include <cmath>

#include "quantize/trellis_kernels.hpp"

namespace nncodec::trellis {
namespace {

// Levels floor - 1, floor, floor + 1, floor + 2 are the candidates: of each parity the nearest on both sides.
void branch_metrics(const Plan& plan, const float* x, const std::uint8_t* contexts, std::size_t rows,
                    BranchRow* out) {
    for (std::size_t row = 0; row < rows; ++row, ++out) {
        for (unsigned lane = 0; lane < kLaneGroup; ++lane) {
            float scaled = *x++ * plan.scale;
            scaled = scaled > -plan.limit ? scaled : -plan.limit;
            scaled = scaled < plan.limit ? scaled : plan.limit;
            const int place = static_cast<int>(std::nearbyint(scaled * 256.0F));
            const int below = place >> kFraction;
            const std::uint16_t* const tables = plan.rates + std::size_t{*contexts++} * 2 * plan.width;
            std::uint32_t least = UINT32_MAX;
            std::uint32_t metric[2][2];
            unsigned upper = 0;
            for (unsigned u = 0; u < 2; ++u) {
                const int floor = level_at_or_below(plan.alphabet, u, below);
                const std::uint16_t* const rate = tables + u * plan.width + (floor + plan.radius) - 1;
                std::uint32_t cost[4];
                for (int k = 0; k < 4; ++k) {
                    const int distance = place - 256 * point_of(plan.alphabet, u, floor - 1 + k);
                    cost[k] = (static_cast<std::uint32_t>(distance * distance) >> kDistanceShift) + rate[k];
                }
                const unsigned same = static_cast<unsigned>(floor) & 1;
                metric[u][same] = std::min(cost[1], cost[3]);
                metric[u][same ^ 1] = std::min(cost[0], cost[2]);
                upper |= static_cast<unsigned>(cost[3] < cost[1]) << (2 * u + same);
                upper |= static_cast<unsigned>(cost[2] < cost[0]) << (2 * u + (same ^ 1));
                least = std::min({least, metric[u][0], metric[u][1]});
            }
            for (unsigned u = 0; u < 2; ++u) {
                for (unsigned parity = 0; parity < 2; ++parity) {
                    out->metric[u][parity][lane] = static_cast<std::uint16_t>(
                        std::min(metric[u][parity] - least, static_cast<std::uint32_t>(kMaxBranch)));
                }
            }
            out->below[lane] = static_cast<std::int16_t>(below);
            out->upper[lane] = static_cast<std::uint8_t>(upper);
        }
    }
}

void normalise(std::uint16_t* metrics, unsigned states) {
    std::uint16_t least[kLaneGroup];
    std::copy_n(metrics, kLaneGroup, least);
    for (unsigned state = 1; state < states; ++state) {
        for (unsigned lane = 0; lane < kLaneGroup; ++lane) {
            least[lane] = std::min(least[lane], metrics[state * kLaneGroup + lane]);
        }
    }
    for (unsigned state = 0; state < states; ++state) {
        for (unsigned lane = 0; lane < kLaneGroup; ++lane) {
            std::uint16_t& metric = metrics[state * kLaneGroup + lane];
            metric = static_cast<std::uint16_t>(metric - least[lane]);
        }
    }
}

// Of two ways into a state; the way by an even level wins a tie.
std::uint32_t select(const std::uint16_t* even_from, const std::uint16_t* even, const std::uint16_t* odd_from,
                     const std::uint16_t* odd, std::uint16_t* to) {
    std::uint32_t decision = 0;
    for (unsigned lane = 0; lane < kLaneGroup; ++lane) {
        const auto by_even = static_cast<std::uint16_t>(even_from[lane] + even[lane]);
        const auto by_odd = static_cast<std::uint16_t>(odd_from[lane] + odd[lane]);
        to[lane] = std::min(by_even, by_odd);
        decision |= static_cast<std::uint32_t>(by_odd < by_even) << lane;
    }
    return decision;
}

void add_compare_select(const Plan& plan, const BranchRow* branches, std::size_t first_row, std::size_t rows,
                        std::uint16_t* from, std::uint16_t* to, std::uint32_t* decisions) {
    for (std::size_t row = 0; row < rows; ++row, ++branches, decisions += plan.states) {
        for (unsigned i = 0; i < plan.states / 2; ++i) {
            const Butterfly& b = plan.butterflies[i];
            const auto& metric = branches->metric[b.first & 1];
            const std::uint16_t* const first = from + b.first * kLaneGroup;
            const std::uint16_t* const second = from + b.second * kLaneGroup;
            decisions[b.to_even] = select(first, metric[0], second, metric[1], to + b.to_even * kLaneGroup);
            decisions[b.to_odd] = select(second, metric[0], first, metric[1], to + b.to_odd * kLaneGroup);
        }
        std::swap(from, to);
        if ((first_row + row + 1) % kNormaliseEvery == 0) normalise(from, plan.states);
    }
}

}  // namespace

const Kernels kScalarKernels{branch_metrics, add_compare_select, levels_of_row<>};

}  // namespace nncodec::trellis
