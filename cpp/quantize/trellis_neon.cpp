// The Viterbi recursion with NEON: 32 lanes in four registers. Branch metrics need a table look-up per
// candidate, which NEON does not have: they are the plain loop's.
#if defined(__aarch64__)
#include <arm_neon.h>

#include "quantize/trellis_kernels.hpp"

namespace nncodec::trellis {
namespace {

void branch_metrics(const Plan& plan, const float* x, const std::uint8_t* contexts, std::size_t rows,
                    BranchRow* out) {
    kScalarKernels.branch_metrics(plan, x, contexts, rows, out);
}

// 32 lanes of 16 bits.
using Row = uint16x8x4_t;

inline Row load(const std::uint16_t* from) {
    return {{vld1q_u16(from), vld1q_u16(from + 8), vld1q_u16(from + 16), vld1q_u16(from + 24)}};
}

void normalise(std::uint16_t* metrics, unsigned states) {
    Row least = load(metrics);
    for (unsigned s = 1; s < states; ++s) {
        const Row other = load(metrics + s * kLaneGroup);
        for (int i = 0; i < 4; ++i) least.val[i] = vminq_u16(least.val[i], other.val[i]);
    }
    for (unsigned s = 0; s < states; ++s) {
        const Row metric = load(metrics + s * kLaneGroup);
        for (unsigned i = 0; i < 4; ++i) {
            vst1q_u16(metrics + s * kLaneGroup + 8 * i, vsubq_u16(metric.val[i], least.val[i]));
        }
    }
}

// Of two ways into a state; the way by an even level wins a tie.
inline std::uint32_t select(const Row& even_from, const Row& even, const Row& odd_from, const Row& odd,
                            std::uint16_t* to) {
    static constexpr std::uint8_t kBits[16] = {1, 2, 4, 8, 16, 32, 64, 128, 1, 2, 4, 8, 16, 32, 64, 128};
    uint16x8_t odd_wins[4];
    for (unsigned i = 0; i < 4; ++i) {
        const uint16x8_t by_even = vaddq_u16(even_from.val[i], even.val[i]);
        const uint16x8_t by_odd = vaddq_u16(odd_from.val[i], odd.val[i]);
        odd_wins[i] = vcltq_u16(by_odd, by_even);
        vst1q_u16(to + 8 * i, vminq_u16(by_even, by_odd));
    }
    const auto bits = [&](int i) {
        return vandq_u8(vuzp1q_u8(vreinterpretq_u8_u16(odd_wins[i]), vreinterpretq_u8_u16(odd_wins[i + 1])),
                        vld1q_u8(kBits));
    };
    // Each addition of neighbours halves the number of bytes: 32, 16, 8, 4.
    const uint8x16_t sixteen = vpaddq_u8(bits(0), bits(2));
    const uint8x16_t eight = vpaddq_u8(sixteen, sixteen);
    return vgetq_lane_u32(vreinterpretq_u32_u8(vpaddq_u8(eight, eight)), 0);
}

void add_compare_select(const Plan& plan, const BranchRow* branches, std::size_t first_row, std::size_t rows,
                        std::uint16_t* from, std::uint16_t* to, std::uint32_t* decisions) {
    for (std::size_t row = 0; row < rows; ++row, ++branches, decisions += plan.states) {
        for (unsigned u = 0; u < 2; ++u) {
            const Row even = load(branches->metric[u][0]);
            const Row odd = load(branches->metric[u][1]);
            const Butterfly* const end = plan.butterflies + (u + 1) * plan.states / 4;
            for (const Butterfly* b = plan.butterflies + u * plan.states / 4; b != end; ++b) {
                const Row first = load(from + b->first * kLaneGroup);
                const Row second = load(from + b->second * kLaneGroup);
                decisions[b->to_even] = select(first, even, second, odd, to + b->to_even * kLaneGroup);
                decisions[b->to_odd] = select(second, even, first, odd, to + b->to_odd * kLaneGroup);
            }
        }
        std::uint16_t* const old = from;
        from = to;
        to = old;
        if ((first_row + row + 1) % kNormaliseEvery == 0) normalise(from, plan.states);
    }
}

}  // namespace

const Kernels kNeonKernels{branch_metrics, add_compare_select, levels_of_row<>};

}  // namespace nncodec::trellis

#endif
