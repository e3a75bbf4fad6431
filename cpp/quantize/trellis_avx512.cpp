// The Viterbi loops on AVX-512: candidates of 16 samples at a time, paths of 32 lanes at a time.
#if defined(__x86_64__)

// GCC 12 takes the undefined pass-through operands of its own AVX-512 header for mistakes.
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wuninitialized"
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#include <immintrin.h>
#pragma GCC diagnostic pop

#include "quantize/trellis_kernels.hpp"

namespace nncodec::trellis {
namespace {

struct Candidates {
    __m512i even, odd;          // costs of the better candidate of each parity
    __mmask16 up_even, up_odd;  // it is the greater one
};

// rates: of levels floor - 1 .. floor + 2, two to a 32-bit element. distance[k]: value minus point, in 1/256
// step.
inline Candidates choose(__m512i low_rates, __m512i high_rates, const __m512i (&distance)[4], __m512i floor) {
    const __m512i low_half = _mm512_set1_epi32(0xFFFF);
    const __m512i rate[4] = {_mm512_and_si512(low_rates, low_half), _mm512_srli_epi32(low_rates, 16),
                             _mm512_and_si512(high_rates, low_half), _mm512_srli_epi32(high_rates, 16)};
    __m512i cost[4];
    for (int k = 0; k < 4; ++k) {
        // At most 1024 in size, so the upper halves are 0 and one multiply-add squares.
        const __m512i size = _mm512_abs_epi32(distance[k]);
        cost[k] = _mm512_add_epi32(_mm512_srli_epi32(_mm512_madd_epi16(size, size), kDistanceShift), rate[k]);
    }
    const __m512i same = _mm512_min_epu32(cost[1], cost[3]);
    const __m512i other = _mm512_min_epu32(cost[0], cost[2]);
    const __mmask16 up_same = _mm512_cmplt_epu32_mask(cost[3], cost[1]);
    const __mmask16 up_other = _mm512_cmplt_epu32_mask(cost[2], cost[0]);
    const __mmask16 odd = _mm512_test_epi32_mask(floor, _mm512_set1_epi32(1));
    const auto pick = [odd](__mmask16 if_odd, __mmask16 if_even) {
        return static_cast<__mmask16>((odd & if_odd) | (~odd & if_even));
    };
    return {_mm512_mask_blend_epi32(odd, same, other), _mm512_mask_blend_epi32(odd, other, same),
            pick(up_other, up_same), pick(up_same, up_other)};
}

// 64 bits (four rates) from each of 16 places, as two vectors of 32-bit elements.
inline void gather_rates(const std::uint16_t* rates, __m512i index, __m512i& low, __m512i& high) {
    const __m512i first = _mm512_i32gather_epi64(_mm512_castsi512_si256(index), rates, 2);
    const __m512i second = _mm512_i32gather_epi64(_mm512_extracti64x4_epi64(index, 1), rates, 2);
    const __m512i evens = _mm512_set_epi32(30, 28, 26, 24, 22, 20, 18, 16, 14, 12, 10, 8, 6, 4, 2, 0);
    const __m512i odds = _mm512_set_epi32(31, 29, 27, 25, 23, 21, 19, 17, 15, 13, 11, 9, 7, 5, 3, 1);
    low = _mm512_permutex2var_epi32(first, evens, second);
    high = _mm512_permutex2var_epi32(first, odds, second);
}

template <Alphabet kAlphabet>
inline __m512i floor_level(__m512i below, __mmask16 negative) {
    if constexpr (kAlphabet == Alphabet::plain) {
        return _mm512_srai_epi32(_mm512_sub_epi32(below, _mm512_set1_epi32(1)), 1);
    } else {
        const __m512i one = _mm512_set1_epi32(1);
        return _mm512_srai_epi32(_mm512_mask_sub_epi32(_mm512_add_epi32(below, one), negative, below, one),
                                 1);
    }
}

// 256 * point_of(kAlphabet, 1, level)
template <Alphabet kAlphabet>
inline __m512i odd_point(__m512i level) {
    const __m512i twice = _mm512_slli_epi32(level, kFraction + 1);
    const __m512i one = _mm512_set1_epi32(256);
    if constexpr (kAlphabet == Alphabet::plain) {
        return _mm512_add_epi32(twice, one);
    } else {
        const __m512i zero = _mm512_setzero_si512();
        const __m512i lowered =
            _mm512_mask_sub_epi32(twice, _mm512_cmpgt_epi32_mask(level, zero), twice, one);
        return _mm512_mask_add_epi32(lowered, _mm512_cmplt_epi32_mask(level, zero), lowered, one);
    }
}

inline void store(std::uint16_t* to, __m512i metric, __m512i least) {
    const __m512i excess = _mm512_min_epu32(_mm512_sub_epi32(metric, least), _mm512_set1_epi32(kMaxBranch));
    _mm256_store_si256(reinterpret_cast<__m256i*>(to), _mm512_cvtepi32_epi16(excess));
}

template <Alphabet kAlphabet>
inline void metrics_of_16(const Plan& plan, const float* x, const std::uint8_t* contexts, unsigned lane,
                          BranchRow& out) {
    const __m512 scaled = _mm512_mul_ps(_mm512_loadu_ps(x), _mm512_set1_ps(plan.scale));
    const __m512 clamped =
        _mm512_min_ps(_mm512_max_ps(scaled, _mm512_set1_ps(-plan.limit)), _mm512_set1_ps(plan.limit));
    const __m512i place = _mm512_cvtps_epi32(_mm512_mul_ps(clamped, _mm512_set1_ps(256.0F)));
    const __m512i below = _mm512_srai_epi32(place, kFraction);
    const __m512i context = _mm512_cvtepu8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(contexts)));
    const __m512i table =
        _mm512_add_epi32(_mm512_mullo_epi32(context, _mm512_set1_epi32(static_cast<int>(2 * plan.width))),
                         _mm512_set1_epi32(plan.radius - 1));
    const __mmask16 negative = _mm512_movepi32_mask(below);

    __m512i low, high;
    __m512i distance[4];
    const __m512i floor0 = _mm512_srai_epi32(below, 1);
    gather_rates(plan.rates, _mm512_add_epi32(table, floor0), low, high);
    const __m512i at0 = _mm512_sub_epi32(place, _mm512_slli_epi32(floor0, kFraction + 1));
    for (int k = 0; k < 4; ++k) distance[k] = _mm512_sub_epi32(at0, _mm512_set1_epi32(512 * (k - 1)));
    const Candidates c0 = choose(low, high, distance, floor0);

    const __m512i floor1 = floor_level<kAlphabet>(below, negative);
    gather_rates(plan.rates + plan.width, _mm512_add_epi32(table, floor1), low, high);
    for (int k = 0; k < 4; ++k) {
        const __m512i level = _mm512_add_epi32(floor1, _mm512_set1_epi32(k - 1));
        distance[k] = _mm512_sub_epi32(place, odd_point<kAlphabet>(level));
    }
    const Candidates c1 = choose(low, high, distance, floor1);

    const __m512i least =
        _mm512_min_epu32(_mm512_min_epu32(c0.even, c0.odd), _mm512_min_epu32(c1.even, c1.odd));
    store(out.metric[0][0] + lane, c0.even, least);
    store(out.metric[0][1] + lane, c0.odd, least);
    store(out.metric[1][0] + lane, c1.even, least);
    store(out.metric[1][1] + lane, c1.odd, least);
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(out.below + lane), _mm512_cvtepi32_epi16(below));
    const __m128i upper =
        _mm_or_si128(_mm_or_si128(_mm_maskz_set1_epi8(c0.up_even, 1), _mm_maskz_set1_epi8(c0.up_odd, 2)),
                     _mm_or_si128(_mm_maskz_set1_epi8(c1.up_even, 4), _mm_maskz_set1_epi8(c1.up_odd, 8)));
    _mm_storeu_si128(reinterpret_cast<__m128i*>(out.upper + lane), upper);
}

template <Alphabet kAlphabet>
void metrics_of_rows(const Plan& plan, const float* x, const std::uint8_t* contexts, std::size_t rows,
                     BranchRow* out) {
    for (std::size_t row = 0; row < rows; ++row, ++out) {
        for (unsigned lane = 0; lane < kLaneGroup; lane += 16) {
            metrics_of_16<kAlphabet>(plan, x, contexts, lane, *out);
            x += 16;
            contexts += 16;
        }
    }
}

void branch_metrics(const Plan& plan, const float* x, const std::uint8_t* contexts, std::size_t rows,
                    BranchRow* out) {
    if (plan.alphabet == Alphabet::plain) {
        metrics_of_rows<Alphabet::plain>(plan, x, contexts, rows, out);
    } else {
        metrics_of_rows<Alphabet::both_zero>(plan, x, contexts, rows, out);
    }
}

inline __m512i load(const std::uint16_t* from) {
    return _mm512_loadu_si512(from);
}

void normalise(std::uint16_t* metrics, unsigned states) {
    __m512i least = load(metrics);
    for (unsigned s = 1; s < states; ++s) least = _mm512_min_epu16(least, load(metrics + s * kLaneGroup));
    for (unsigned s = 0; s < states; ++s) {
        std::uint16_t* const at = metrics + s * kLaneGroup;
        _mm512_storeu_si512(at, _mm512_sub_epi16(load(at), least));
    }
}

inline std::uint32_t select(__m512i by_even, __m512i by_odd, std::uint16_t* to) {
    _mm512_storeu_si512(to, _mm512_min_epu16(by_even, by_odd));
    return _mm512_cmplt_epu16_mask(by_odd, by_even);
}

void add_compare_select(const Plan& plan, const BranchRow* branches, std::size_t first_row, std::size_t rows,
                        std::uint16_t* from, std::uint16_t* to, std::uint32_t* decisions) {
    const Butterfly* const all = plan.butterflies;
    for (std::size_t row = 0; row < rows; ++row, ++branches, decisions += plan.states) {
        for (unsigned u = 0; u < 2; ++u) {
            const __m512i even = load(branches->metric[u][0]);
            const __m512i odd = load(branches->metric[u][1]);
            for (const Butterfly* b = all + u * plan.states / 4; b != all + (u + 1) * plan.states / 4; ++b) {
                const __m512i first = load(from + b->first * kLaneGroup);
                const __m512i second = load(from + b->second * kLaneGroup);
                decisions[b->to_even] = select(_mm512_add_epi16(first, even), _mm512_add_epi16(second, odd),
                                               to + b->to_even * kLaneGroup);
                decisions[b->to_odd] = select(_mm512_add_epi16(second, even), _mm512_add_epi16(first, odd),
                                              to + b->to_odd * kLaneGroup);
            }
        }
        std::uint16_t* const old = from;
        from = to;
        to = old;
        if ((first_row + row + 1) % kNormaliseEvery == 0) normalise(from, plan.states);
    }
}

void levels(Alphabet alphabet, PathStep step, const std::int16_t* below, const std::uint8_t* upper,
            std::int16_t* to, std::uint8_t* unions) {
    const __mmask32 u = step.unions;
    const __mmask32 odd = step.odd;
    const __m512i one = _mm512_set1_epi16(1);
    const __m512i at = _mm512_loadu_si512(below);
    const __m512i up = _mm512_cvtepu8_epi16(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(upper)));
    __m512i raised = _mm512_sub_epi16(at, one);  // of union 1, before it is halved
    if (alphabet == Alphabet::both_zero)
        raised = _mm512_mask_add_epi16(raised, _knot_mask32(_mm512_movepi16_mask(at)), at, one);
    const __m512i floor = _mm512_srai_epi16(_mm512_mask_blend_epi16(u, at, raised), 1);
    const __m512i parity = _mm512_maskz_set1_epi16(odd, 1);
    const __m512i lower = _mm512_sub_epi16(floor, _mm512_and_si512(_mm512_xor_si512(floor, parity), one));
    // Bit 2 * union + parity.
    const __m512i in_0 = _mm512_add_epi16(one, parity);
    const __m512i bit = _mm512_mask_slli_epi16(in_0, u, in_0, 2);
    const __mmask32 higher = _mm512_test_epi16_mask(up, bit);
    _mm512_storeu_si512(to, _mm512_mask_add_epi16(lower, higher, lower, _mm512_set1_epi16(2)));
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(unions), _mm256_maskz_set1_epi8(u, 1));
}

}  // namespace

const Kernels kAvx512Kernels{branch_metrics, add_compare_select, levels};

}  // namespace nncodec::trellis

#endif
