// rANS with a trellis per lane on AVX-512: 16 lanes a vector, one gather for the slot and one for the value.
#if defined(__x86_64__)

// GCC 12 takes the undefined pass-through operands of its own AVX-512 header for mistakes.
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wuninitialized"
#if !defined(__clang__)
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#endif
#include <immintrin.h>
#pragma GCC diagnostic pop

#include "entropy/rans_trellis_kernels.hpp"

namespace nncodec::rans {
namespace {

constexpr int kVector = 16;

struct Step {
    __m512i rans, state, table, symbol;
};

// All of a step but the refill and the value.
inline Step advance(const TrellisBlock& block, __m512i rans, __m512i state, __m512i context, __mmask16 mask) {
    const __m512i one = _mm512_set1_epi32(1);
    const __m512i low12 = _mm512_set1_epi32(0xFFF);
    const __mmask16 odd_union = _mm512_test_epi32_mask(state, one);
    const __m512i table = _mm512_or_si512(_mm512_slli_epi32(context, 1), _mm512_and_si512(state, one));
    const __m512i index = _mm512_or_si512(_mm512_slli_epi32(table, 12), _mm512_and_si512(rans, low12));
    const __m512i entry = _mm512_mask_i32gather_epi32(_mm512_setzero_si512(), mask, index, block.slots, 4);
    const __m512i upper = _mm512_srli_epi32(rans, 12);
    const __m512i place = _mm512_and_si512(_mm512_srli_epi32(entry, 8), low12);
    const __m512i next = _mm512_add_epi32(_mm512_mullo_epi32(_mm512_srli_epi32(entry, 20), upper),
                                          _mm512_add_epi32(upper, place));
    const __mmask16 odd_level = _mm512_test_epi32_mask(entry, one);  // the symbol lies in the lowest bits
    __m512i moved = _mm512_srli_epi32(state, 1);
    moved = _mm512_mask_xor_epi32(moved, odd_union, moved, _mm512_set1_epi32(static_cast<int>(block.h0)));
    moved = _mm512_mask_xor_epi32(moved, odd_level, moved, _mm512_set1_epi32(static_cast<int>(block.h1)));
    return {_mm512_mask_mov_epi32(rans, mask, next), _mm512_mask_mov_epi32(state, mask, moved), table,
            _mm512_and_si512(entry, _mm512_set1_epi32(0xFF))};
}

// Lanes that fell below 2^16 take the next words in ascending order. Reads 32 bytes.
inline __m512i refill(__m512i rans, __mmask16 mask, const std::uint8_t*& words) {
    const __mmask16 low = _mm512_mask_cmplt_epu32_mask(mask, rans, _mm512_set1_epi32(1 << 16));
    const __m512i next = _mm512_cvtepu16_epi32(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(words)));
    words += 2 * static_cast<unsigned>(__builtin_popcount(low));
    return _mm512_or_si512(_mm512_mask_slli_epi32(rans, low, rans, 16), _mm512_maskz_expand_epi32(low, next));
}

template <int kVectors>
std::size_t decode(TrellisBlock& block, std::size_t steps, unsigned lanes) {
    constexpr std::ptrdiff_t kMargin =
        2 * kVectors * kVector + 64;  // the words of a step, and what refill reads too far
    __m512i rans[kVectors];
    __m512i state[kVectors];
    __mmask16 mask[kVectors];
    for (int v = 0; v < kVectors; ++v) {
        rans[v] = _mm512_load_si512(block.rans + v * kVector);
        state[v] = _mm512_load_si512(block.state + v * kVector);
        const int left = static_cast<int>(lanes) - v * kVector;
        mask[v] = static_cast<__mmask16>(left >= kVector ? 0xFFFF : (1U << left) - 1);
    }
    const std::uint8_t* words = block.words;
    std::size_t i = 0;
    for (; i < steps && block.end - words >= kMargin; ++i) {
        Step step[kVectors];
        for (int v = 0; v < kVectors; ++v) {
            const auto* const context = block.contexts + i * kBlockLanes + v * kVector;
            step[v] = advance(block, rans[v], state[v],
                              _mm512_cvtepu8_epi32(_mm_load_si128(reinterpret_cast<const __m128i*>(context))),
                              mask[v]);
            state[v] = step[v].state;
        }
        for (int v = 0; v < kVectors; ++v) rans[v] = refill(step[v].rans, mask[v], words);
        for (int v = 0; v < kVectors; ++v) {
            const __m512i index = _mm512_or_si512(_mm512_slli_epi32(step[v].table, 8), step[v].symbol);
            _mm512_store_ps(block.values + i * kBlockLanes + v * kVector,
                            _mm512_mask_i32gather_ps(_mm512_setzero_ps(), mask[v], index, block.points, 4));
        }
    }
    for (int v = 0; v < kVectors; ++v) {
        _mm512_store_si512(block.rans + v * kVector, rans[v]);
        _mm512_store_si512(block.state + v * kVector, state[v]);
    }
    block.words = words;
    return i;
}

}  // namespace

std::size_t decode_block_avx512(TrellisBlock& block, std::size_t steps, unsigned lanes) noexcept {
    switch ((lanes + kVector - 1) / kVector) {
        case 1:
            return decode<1>(block, steps, lanes);
        case 2:
            return decode<2>(block, steps, lanes);
        case 3:
            return decode<3>(block, steps, lanes);
        case 4:
            return decode<4>(block, steps, lanes);
        default:
            return 0;
    }
}

}  // namespace nncodec::rans

#endif
