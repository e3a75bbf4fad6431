#if defined(__x86_64__)
// GCC 12 takes the undefined pass-through operands of its own AVX-512 header for mistakes.
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wuninitialized"
#if !defined(__clang__)
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#endif
#include <immintrin.h>
#pragma GCC diagnostic pop

#include "codecs/trellis_symbols.hpp"
#include "codecs/trellis_tallies.hpp"

namespace nncodec::trellis_codec {
namespace {

bool all_direct(const std::int16_t* levels) noexcept {
    __m512i greatest = _mm512_setzero_si512();
    for (std::size_t i = 0; i < kTallyBlock; i += 32)
        greatest = _mm512_max_epi16(greatest, _mm512_abs_epi16(_mm512_loadu_si512(levels + i)));
    return _mm512_cmpgt_epi16_mask(greatest, _mm512_set1_epi16(trellis_symbols::kDirect)) == 0;
}

inline __m512i wide(const std::uint8_t* from) noexcept {
    return _mm512_cvtepu8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(from)));
}

}  // namespace

// The same operations, in the same order, as the loop over single elements.
bool tally_block_avx512(const TallyInput& in, TallyBlock& out, double* squares) noexcept {
    static_assert(kTallySide == 16);
    if (!all_direct(in.levels)) return false;
    const __m512 scale = _mm512_set1_ps(in.scale);
    const __m512 most = _mm512_set1_ps(64.0F);
    const __m512i first = _mm512_set1_epi32(static_cast<int>(in.first_sum));
    const __m512i zero = _mm512_set1_epi32(trellis_symbols::kZero);
    __m512d low = _mm512_loadu_pd(squares);
    __m512d high = _mm512_loadu_pd(squares + 8);
    for (std::size_t i = 0; i < kTallyBlock; i += 16) {
        const __m512i level =
            _mm512_cvtepi16_epi32(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(in.levels + i)));
        const __m512i in_union = wide(in.unions + i);
        const __m512i point = _mm512_add_epi32(_mm512_slli_epi32(level, 1), in_union);
        const __m512 exact =
            _mm512_sub_ps(_mm512_mul_ps(_mm512_loadu_ps(in.values + i), scale), _mm512_cvtepi32_ps(point));
        const __m512 cut =
            _mm512_min_ps(_mm512_max_ps(exact, _mm512_sub_ps(_mm512_setzero_ps(), most)), most);
        _mm512_store_si512(out.error + i, _mm512_cvttps_epi32(_mm512_mul_ps(cut, _mm512_set1_ps(4096.0F))));
        const __m512i table =
            _mm512_add_epi32(_mm512_slli_epi32(_mm512_sub_epi32(wide(in.sums + i), first), 1), in_union);
        _mm512_store_si512(out.index + i,
                           _mm512_add_epi32(_mm512_slli_epi32(table, 8), _mm512_add_epi32(level, zero)));
        const __m512d a = _mm512_cvtps_pd(_mm512_castps512_ps256(exact));
        const __m512d b = _mm512_cvtps_pd(_mm512_extractf32x8_ps(exact, 1));
        low = _mm512_add_pd(low, _mm512_mul_pd(a, a));
        high = _mm512_add_pd(high, _mm512_mul_pd(b, b));
    }
    _mm512_storeu_pd(squares, low);
    _mm512_storeu_pd(squares + 8, high);
    return true;
}

}  // namespace nncodec::trellis_codec

#endif
