#if defined(__x86_64__)

#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"  // false alarm in the intrinsics header (gcc 12)
#include <immintrin.h>

#include "quantize/lookup_kernels.hpp"

namespace nncodec::lookup {
namespace {

__m512i sixteen(const std::uint8_t* indices) noexcept {
    return _mm512_cvtepu8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(indices)));
}

__m512i entries(const std::uint8_t* table, std::size_t first) noexcept {
    return _mm512_loadu_si512(table + 4 * first);
}

}  // namespace

// Up to 64 entries lie in four registers; more are gathered.
std::size_t run4_avx512(const std::uint8_t* indices, std::size_t n, const std::uint8_t* table,
                        std::size_t size, std::uint8_t* out) noexcept {
    const std::size_t whole = n / 16 * 16;
    const __m512i a = entries(table, 0);
    const __m512i b = entries(table, 16);
    if (size <= 16) {
        for (std::size_t i = 0; i < whole; i += 16)
            _mm512_storeu_si512(out + 4 * i, _mm512_permutexvar_epi32(sixteen(indices + i), a));
    } else if (size <= 32) {
        for (std::size_t i = 0; i < whole; i += 16)
            _mm512_storeu_si512(out + 4 * i, _mm512_permutex2var_epi32(a, sixteen(indices + i), b));
    } else if (size <= 64) {
        const __m512i c = entries(table, 32);
        const __m512i d = entries(table, 48);
        for (std::size_t i = 0; i < whole; i += 16) {
            const __m512i at = sixteen(indices + i);
            const __m512i low = _mm512_permutex2var_epi32(a, at, b);
            const __m512i high = _mm512_permutex2var_epi32(c, at, d);
            const __mmask16 upper = _mm512_test_epi32_mask(at, _mm512_set1_epi32(32));
            _mm512_storeu_si512(out + 4 * i, _mm512_mask_blend_epi32(upper, low, high));
        }
    } else {
        for (std::size_t i = 0; i < whole; i += 16)
            _mm512_storeu_si512(out + 4 * i, _mm512_i32gather_epi32(sixteen(indices + i), table, 4));
    }
    return whole;
}

}  // namespace nncodec::lookup

#endif
