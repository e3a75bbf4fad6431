// rANS with a trellis per lane on AVX2: 8 lanes a vector, two gathers for the buckets and one for the values.
#if defined(__AVX2__)
#include <immintrin.h>

#include "entropy/rans_refill_avx2.hpp"
#include "entropy/rans_trellis_kernels.hpp"

namespace nncodec::rans {
namespace {

constexpr int kVector = 8;

// What does not change from step to step.
struct Constants {
    explicit Constants(const TrellisBlock& block) noexcept
        : buckets(reinterpret_cast<const long long*>(block.buckets + block.pairs->first_bucket)),
          bucket_bits(_mm_cvtsi32_si128(static_cast<int>(block.pairs->bucket_bits))),
          width_bits(_mm_cvtsi32_si128(static_cast<int>(12 - block.pairs->bucket_bits))),
          width_mask(_mm256_set1_epi32((1 << (12 - block.pairs->bucket_bits)) - 1)),
          h0(_mm256_set1_epi32(static_cast<int>(block.h0))),
          h1(_mm256_set1_epi32(static_cast<int>(block.h1))) {}

    const long long* buckets;
    __m128i bucket_bits, width_bits;
    __m256i width_mask, h0, h1;
};

// -1 where bit 0 is set.
inline __m256i odd(__m256i x) noexcept {
    return _mm256_srai_epi32(_mm256_slli_epi32(x, 31), 31);
}

struct Lanes {
    __m256i rans, state, index;  // index: of the value

    // All of a step but the refill and the value.
    void advance(const Constants& c, __m256i context, __m256i active) noexcept {
        const __m256i low12 = _mm256_set1_epi32(0xFFF);
        const __m256i one = _mm256_set1_epi32(1);
        const __m256i table = _mm256_or_si256(_mm256_slli_epi32(context, 1), _mm256_and_si256(state, one));
        const __m256i bucket = _mm256_or_si256(_mm256_sll_epi32(table, c.bucket_bits),
                                               _mm256_srl_epi32(_mm256_and_si256(rans, low12), c.width_bits));
        const __m256 first = _mm256_castsi256_ps(
            _mm256_i32gather_epi64(c.buckets, _mm256_castsi256_si128(bucket), sizeof(Bucket)));
        const __m256 second = _mm256_castsi256_ps(
            _mm256_i32gather_epi64(c.buckets, _mm256_extracti128_si256(bucket, 1), sizeof(Bucket)));
        // Within halves of 128 bits, so in the order 0, 1, 4, 5, 2, 3, 6, 7, which the permutation mends.
        const __m256i own_half = in_order(_mm256_shuffle_ps(first, second, 0x88));
        const __m256i other_half = in_order(_mm256_shuffle_ps(first, second, 0xDD));
        const __m256i low = _mm256_and_si256(rans, c.width_mask);
        const __m256i own = _mm256_cmpgt_epi32(_mm256_srli_epi32(own_half, 20), low);
        const __m256i half = _mm256_blendv_epi8(other_half, own_half, own);
        const __m256i place = _mm256_and_si256(
            _mm256_add_epi32(low, _mm256_andnot_si256(own, _mm256_srli_epi32(half, 20))), low12);
        const __m256i upper = _mm256_srli_epi32(rans, 12);
        const __m256i less_one = _mm256_and_si256(_mm256_srli_epi32(half, 8), low12);  // frequency - 1
        const __m256i next =
            _mm256_add_epi32(_mm256_mullo_epi32(less_one, upper), _mm256_add_epi32(upper, place));
        const __m256i by_union = _mm256_and_si256(odd(state), c.h0);
        const __m256i by_level = _mm256_and_si256(odd(half), c.h1);  // the symbol lies in the lowest bits
        const __m256i moved =
            _mm256_xor_si256(_mm256_srli_epi32(state, 1), _mm256_xor_si256(by_union, by_level));
        rans = _mm256_blendv_epi8(rans, next, active);
        state = _mm256_blendv_epi8(state, moved, active);
        index = _mm256_or_si256(_mm256_slli_epi32(table, 8), _mm256_and_si256(half, _mm256_set1_epi32(0xFF)));
    }

  private:
    static __m256i in_order(__m256 x) noexcept {
        return _mm256_permute4x64_epi64(_mm256_castps_si256(x), 0xD8);
    }
};

template <int kVectors>
std::size_t decode(TrellisBlock& block, std::size_t steps, unsigned n_lanes) noexcept {
    constexpr std::ptrdiff_t kMargin =
        2 * kVectors * kVector + 16;  // the words of a step, and what refill reads too far
    Lanes lanes[kVectors];
    __m256i active[kVectors];
    for (int v = 0; v < kVectors; ++v) {
        lanes[v].rans = _mm256_load_si256(reinterpret_cast<const __m256i*>(block.rans + v * kVector));
        lanes[v].state = _mm256_cvtepu16_epi32(
            _mm_load_si128(reinterpret_cast<const __m128i*>(block.state + v * kVector)));
        active[v] = _mm256_cmpgt_epi32(_mm256_set1_epi32(static_cast<int>(n_lanes) - v * kVector),
                                       _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
    }
    const std::uint8_t* words = block.words;
    const Constants constants(block);
    std::size_t i = 0;
    for (; i < steps && block.end - words >= kMargin; ++i) {
        for (int v = 0; v < kVectors; ++v) {
            const auto* const context = block.contexts + i * block.context_stride + v * kVector;
            lanes[v].advance(constants,
                             _mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(context))),
                             active[v]);
        }
        for (int v = 0; v < kVectors; ++v) lanes[v].rans = refill(lanes[v].rans, active[v], words);
        for (int v = 0; v < kVectors; ++v) {
            const __m256i value = _mm256_i32gather_epi32(block.values, lanes[v].index, 4);
            const __m256i packed = _mm256_permute4x64_epi64(_mm256_packs_epi32(value, value), 0x08);
            _mm_storeu_si128(reinterpret_cast<__m128i*>(block.out + i * block.out_stride + v * kVector),
                             _mm256_castsi256_si128(packed));
        }
    }
    for (int v = 0; v < kVectors; ++v) {
        _mm256_store_si256(reinterpret_cast<__m256i*>(block.rans + v * kVector), lanes[v].rans);
        const __m256i packed =
            _mm256_permute4x64_epi64(_mm256_packus_epi32(lanes[v].state, lanes[v].state), 0x08);
        _mm_store_si128(reinterpret_cast<__m128i*>(block.state + v * kVector),
                        _mm256_castsi256_si128(packed));
    }
    block.words = words;
    return i;
}

}  // namespace

std::size_t decode_block_avx2(TrellisBlock& block, std::size_t steps, unsigned lanes) noexcept {
    const unsigned vectors = (lanes + kVector - 1) / kVector;
    if (vectors == 0) return 0;
    if (vectors == 1) return decode<1>(block, steps, lanes);
    if (vectors == 2) return decode<2>(block, steps, lanes);
    if (vectors <= 4) return decode<4>(block, steps, lanes);
    return decode<8>(block, steps, lanes);
}

}  // namespace nncodec::rans
#endif
