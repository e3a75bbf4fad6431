#if defined(__x86_64__)

#include <immintrin.h>

#include "quantize/lookup_kernels.hpp"

namespace nncodec::lookup {
namespace {

__m256i eight(const std::uint8_t* indices) noexcept {
    return _mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(indices)));
}

}  // namespace

// Up to 8 entries lie in a register; more are gathered.
std::size_t run4_avx2(const std::uint8_t* indices, std::size_t n, const std::uint8_t* table, std::size_t size,
                      std::uint8_t* out) noexcept {
    const std::size_t whole = n / 8 * 8;
    if (size <= 8) {
        const __m256i entries = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(table));
        for (std::size_t i = 0; i < whole; i += 8) {
            const __m256i found = _mm256_permutevar8x32_epi32(entries, eight(indices + i));
            _mm256_storeu_si256(reinterpret_cast<__m256i*>(out + 4 * i), found);
        }
        return whole;
    }
    for (std::size_t i = 0; i < whole; i += 8) {
        const __m256i found =
            _mm256_i32gather_epi32(reinterpret_cast<const int*>(table), eight(indices + i), 4);
        _mm256_storeu_si256(reinterpret_cast<__m256i*>(out + 4 * i), found);
    }
    return whole;
}

}  // namespace nncodec::lookup

#endif
