// The Viterbi loops on AVX2: candidates of 8 samples at a time, paths of 2 x 16 lanes at a time.
#if defined(__x86_64__)

#include <immintrin.h>

#include "quantize/trellis_kernels.hpp"

namespace nncodec::trellis {
namespace {

struct Candidates {
    __m256i even, odd;        // costs of the better candidate of each parity
    __m256i up_even, up_odd;  // -1 where it is the greater one
};

// rates: of levels floor - 1 .. floor + 2, two to a 32-bit element. distance[k]: value minus point, in 1/256
// step.
inline Candidates choose(__m256i low_rates, __m256i high_rates, const __m256i (&distance)[4], __m256i floor) {
    const __m256i low_half = _mm256_set1_epi32(0xFFFF);
    const __m256i rate[4] = {_mm256_and_si256(low_rates, low_half), _mm256_srli_epi32(low_rates, 16),
                             _mm256_and_si256(high_rates, low_half), _mm256_srli_epi32(high_rates, 16)};
    __m256i cost[4];
    for (int k = 0; k < 4; ++k) {
        // At most 1024 in size, so the upper halves are 0 and one multiply-add squares.
        const __m256i size = _mm256_abs_epi32(distance[k]);
        cost[k] = _mm256_add_epi32(_mm256_srli_epi32(_mm256_madd_epi16(size, size), kDistanceShift), rate[k]);
    }
    const __m256i same = _mm256_min_epi32(cost[1], cost[3]);
    const __m256i other = _mm256_min_epi32(cost[0], cost[2]);
    const __m256i up_same = _mm256_cmpgt_epi32(cost[1], cost[3]);
    const __m256i up_other = _mm256_cmpgt_epi32(cost[0], cost[2]);
    const __m256i odd =
        _mm256_sub_epi32(_mm256_setzero_si256(), _mm256_and_si256(floor, _mm256_set1_epi32(1)));
    return {_mm256_blendv_epi8(same, other, odd), _mm256_blendv_epi8(other, same, odd),
            _mm256_blendv_epi8(up_same, up_other, odd), _mm256_blendv_epi8(up_other, up_same, odd)};
}

// 64 bits (four rates) from each of 8 places, as two vectors of 32-bit elements.
inline void gather_rates(const std::uint16_t* rates, __m256i index, __m256i& low, __m256i& high) {
    const auto* const base = reinterpret_cast<const long long*>(rates);
    const __m256i first = _mm256_i32gather_epi64(base, _mm256_castsi256_si128(index), 2);
    const __m256i second = _mm256_i32gather_epi64(base, _mm256_extracti128_si256(index, 1), 2);
    const __m256 a = _mm256_castsi256_ps(first);
    const __m256 b = _mm256_castsi256_ps(second);
    const __m256i lows = _mm256_castps_si256(_mm256_shuffle_ps(a, b, _MM_SHUFFLE(2, 0, 2, 0)));
    const __m256i highs = _mm256_castps_si256(_mm256_shuffle_ps(a, b, _MM_SHUFFLE(3, 1, 3, 1)));
    low = _mm256_permute4x64_epi64(lows, _MM_SHUFFLE(3, 1, 2, 0));
    high = _mm256_permute4x64_epi64(highs, _MM_SHUFFLE(3, 1, 2, 0));
}

template <Alphabet kAlphabet>
inline __m256i floor_level(__m256i below) {
    const __m256i one = _mm256_set1_epi32(1);
    if constexpr (kAlphabet == Alphabet::plain) {
        return _mm256_srai_epi32(_mm256_sub_epi32(below, one), 1);
    } else {
        const __m256i sign = _mm256_or_si256(_mm256_srai_epi32(below, 31), one);  // -1 or 1
        return _mm256_srai_epi32(_mm256_add_epi32(below, sign), 1);
    }
}

// 256 * point_of(kAlphabet, 1, level)
template <Alphabet kAlphabet>
inline __m256i odd_point(__m256i level) {
    const __m256i twice = _mm256_slli_epi32(level, kFraction + 1);
    const __m256i one = _mm256_set1_epi32(256);
    if constexpr (kAlphabet == Alphabet::plain) {
        return _mm256_add_epi32(twice, one);
    } else {
        return _mm256_sub_epi32(twice, _mm256_sign_epi32(one, level));
    }
}

// 8 + 8 elements of 32 bits to 16 of 16 bits, in order; all below 2^16.
inline __m256i narrow(__m256i first, __m256i second) {
    return _mm256_permute4x64_epi64(_mm256_packus_epi32(first, second), _MM_SHUFFLE(3, 1, 2, 0));
}

struct Eight {
    __m256i metric[2][2];
    __m256i below;
    __m256i upper;
};

template <Alphabet kAlphabet>
inline Eight metrics_of_8(const Plan& plan, const float* x, const std::uint8_t* contexts) {
    const __m256 scaled = _mm256_mul_ps(_mm256_loadu_ps(x), _mm256_set1_ps(plan.scale));
    const __m256 clamped =
        _mm256_min_ps(_mm256_max_ps(scaled, _mm256_set1_ps(-plan.limit)), _mm256_set1_ps(plan.limit));
    const __m256i place = _mm256_cvtps_epi32(_mm256_mul_ps(clamped, _mm256_set1_ps(256.0F)));
    const __m256i below = _mm256_srai_epi32(place, kFraction);
    const __m256i context = _mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(contexts)));
    const __m256i table =
        _mm256_add_epi32(_mm256_mullo_epi32(context, _mm256_set1_epi32(static_cast<int>(2 * plan.width))),
                         _mm256_set1_epi32(plan.radius - 1));

    __m256i low, high;
    __m256i distance[4];
    const __m256i floor0 = _mm256_srai_epi32(below, 1);
    gather_rates(plan.rates, _mm256_add_epi32(table, floor0), low, high);
    const __m256i at0 = _mm256_sub_epi32(place, _mm256_slli_epi32(floor0, kFraction + 1));
    for (int k = 0; k < 4; ++k) distance[k] = _mm256_sub_epi32(at0, _mm256_set1_epi32(512 * (k - 1)));
    const Candidates c0 = choose(low, high, distance, floor0);

    const __m256i floor1 = floor_level<kAlphabet>(below);
    gather_rates(plan.rates + plan.width, _mm256_add_epi32(table, floor1), low, high);
    for (int k = 0; k < 4; ++k) {
        const __m256i level = _mm256_add_epi32(floor1, _mm256_set1_epi32(k - 1));
        distance[k] = _mm256_sub_epi32(place, odd_point<kAlphabet>(level));
    }
    const Candidates c1 = choose(low, high, distance, floor1);

    const __m256i least =
        _mm256_min_epi32(_mm256_min_epi32(c0.even, c0.odd), _mm256_min_epi32(c1.even, c1.odd));
    const auto excess = [least](__m256i metric) {
        return _mm256_min_epi32(_mm256_sub_epi32(metric, least), _mm256_set1_epi32(kMaxBranch));
    };
    const auto bit = [](__m256i mask, int value) { return _mm256_and_si256(mask, _mm256_set1_epi32(value)); };
    const __m256i upper = _mm256_or_si256(_mm256_or_si256(bit(c0.up_even, 1), bit(c0.up_odd, 2)),
                                          _mm256_or_si256(bit(c1.up_even, 4), bit(c1.up_odd, 8)));
    return {{{excess(c0.even), excess(c0.odd)}, {excess(c1.even), excess(c1.odd)}}, below, upper};
}

template <Alphabet kAlphabet>
void metrics_of_rows(const Plan& plan, const float* x, const std::uint8_t* contexts, std::size_t rows,
                     BranchRow* out) {
    for (std::size_t row = 0; row < rows; ++row, ++out, x += kLaneGroup, contexts += kLaneGroup) {
        for (unsigned lane = 0; lane < plan.lanes; lane += 16) {
            const Eight a = metrics_of_8<kAlphabet>(plan, x + lane, contexts + lane);
            const Eight b = metrics_of_8<kAlphabet>(plan, x + lane + 8, contexts + lane + 8);
            for (unsigned u = 0; u < 2; ++u) {
                for (unsigned parity = 0; parity < 2; ++parity) {
                    _mm256_store_si256(reinterpret_cast<__m256i*>(out->metric[u][parity] + lane),
                                       narrow(a.metric[u][parity], b.metric[u][parity]));
                }
            }
            // Signed saturation keeps `below`: the radius keeps it within 16 bits.
            const __m256i below =
                _mm256_permute4x64_epi64(_mm256_packs_epi32(a.below, b.below), _MM_SHUFFLE(3, 1, 2, 0));
            _mm256_storeu_si256(reinterpret_cast<__m256i*>(out->below + lane), below);
            const __m256i upper = narrow(a.upper, b.upper);
            const __m128i bytes =
                _mm_packus_epi16(_mm256_castsi256_si128(upper), _mm256_extracti128_si256(upper, 1));
            _mm_storeu_si128(reinterpret_cast<__m128i*>(out->upper + lane), bytes);
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

// 32 lanes of 16 bits.
struct Row {
    __m256i low, high;
};

inline Row load(const std::uint16_t* from) {
    const auto* const at = reinterpret_cast<const __m256i*>(from);
    return {_mm256_loadu_si256(at), _mm256_loadu_si256(at + 1)};
}
inline void store(std::uint16_t* to, Row row) {
    auto* const at = reinterpret_cast<__m256i*>(to);
    _mm256_storeu_si256(at, row.low);
    _mm256_storeu_si256(at + 1, row.high);
}
inline Row add(Row a, Row b) {
    return {_mm256_add_epi16(a.low, b.low), _mm256_add_epi16(a.high, b.high)};
}
inline Row subtract(Row a, Row b) {
    return {_mm256_sub_epi16(a.low, b.low), _mm256_sub_epi16(a.high, b.high)};
}
inline Row min(Row a, Row b) {
    return {_mm256_min_epu16(a.low, b.low), _mm256_min_epu16(a.high, b.high)};
}

void normalise(std::uint16_t* metrics, unsigned states) {
    Row least = load(metrics);
    for (unsigned s = 1; s < states; ++s) least = min(least, load(metrics + s * kLaneGroup));
    for (unsigned s = 0; s < states; ++s) {
        store(metrics + s * kLaneGroup, subtract(load(metrics + s * kLaneGroup), least));
    }
}

inline std::uint32_t select(Row by_even, Row by_odd, std::uint16_t* to) {
    const Row best = min(by_even, by_odd);
    store(to, best);
    const __m256i even = _mm256_packs_epi16(_mm256_cmpeq_epi16(best.low, by_even.low),
                                            _mm256_cmpeq_epi16(best.high, by_even.high));
    return ~static_cast<std::uint32_t>(
        _mm256_movemask_epi8(_mm256_permute4x64_epi64(even, _MM_SHUFFLE(3, 1, 2, 0))));
}

void add_compare_select(const Plan& plan, const BranchRow* branches, std::size_t first_row, std::size_t rows,
                        std::uint16_t* from, std::uint16_t* to, std::uint32_t* decisions) {
    const Butterfly* const all = plan.butterflies;
    for (std::size_t row = 0; row < rows; ++row, ++branches, decisions += plan.states) {
        for (unsigned u = 0; u < 2; ++u) {
            const Row even = load(branches->metric[u][0]);
            const Row odd = load(branches->metric[u][1]);
            for (const Butterfly* b = all + u * plan.states / 4; b != all + (u + 1) * plan.states / 4; ++b) {
                const Row first = load(from + b->first * kLaneGroup);
                const Row second = load(from + b->second * kLaneGroup);
                decisions[b->to_even] =
                    select(add(first, even), add(second, odd), to + b->to_even * kLaneGroup);
                decisions[b->to_odd] =
                    select(add(second, even), add(first, odd), to + b->to_odd * kLaneGroup);
            }
        }
        std::uint16_t* const old = from;
        from = to;
        to = old;
        if ((first_row + row + 1) % kNormaliseEvery == 0) normalise(from, plan.states);
    }
}

}  // namespace

const Kernels kAvx2Kernels{branch_metrics, add_compare_select, levels_of_row<>};

}  // namespace nncodec::trellis

#endif
