// A look at 32 classes, and an expanding move for each different one among them.
#if defined(__AVX512VBMI2__)
#if !defined(__clang__)
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"  // GCC 12 sees its own _mm512_undefined_* that way
#pragma GCC diagnostic ignored "-Wuninitialized"
#endif
#include <immintrin.h>

#include "quantize/class_order_kernels.hpp"

namespace nncodec::class_order {

std::size_t restore_avx512(const std::uint8_t* classes, std::size_t n, const std::int16_t* values,
                           std::uint32_t* next, std::int16_t* out) noexcept {
    std::size_t i = 0;
    for (; i + 32 <= n; i += 32) {
        const __m256i of = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(classes + i));
        __m512i restored = _mm512_setzero_si512();
        std::uint32_t left = ~std::uint32_t{0};
        do {
            const std::uint8_t c = classes[i + _tzcnt_u32(left)];
            const __mmask32 mine = _mm256_cmpeq_epi8_mask(of, _mm256_set1_epi8(static_cast<char>(c)));
            const auto count = static_cast<unsigned>(__builtin_popcount(mine));
            const __m512i from = _mm512_maskz_loadu_epi16(_bzhi_u32(~0U, count), values + next[c]);
            restored = _mm512_mask_expand_epi16(restored, mine, from);
            next[c] += count;
            left &= ~mine;
        } while (left != 0);
        _mm512_storeu_si512(out + i, restored);
    }
    return i;
}

}  // namespace nncodec::class_order
#endif
