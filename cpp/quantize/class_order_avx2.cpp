// How often each class occurs, 32 elements a comparison.
#if defined(__AVX2__)
#include <immintrin.h>

#include "quantize/class_order_kernels.hpp"

namespace nncodec::class_order {

std::size_t count_avx2(const std::uint8_t* classes, std::size_t n, unsigned n_classes,
                       std::uint32_t* counts) noexcept {
    constexpr std::size_t kVector = 32;
    constexpr std::size_t kBlock = 255 * kVector;  // as many as a byte counts, and the nearest cache holds
    const std::size_t whole = n / kVector * kVector;
    for (std::size_t begin = 0; begin < whole; begin += kBlock) {
        const std::size_t end = whole - begin < kBlock ? whole : begin + kBlock;
        for (unsigned c = 0; c < n_classes; c += 4) {  // four at a time: counters of those above are 0
            __m256i wanted[4];
            __m256i found[4] = {};
            for (unsigned k = 0; k < 4; ++k) wanted[k] = _mm256_set1_epi8(static_cast<char>(c + k));
            for (std::size_t i = begin; i < end; i += kVector) {
                const __m256i of = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(classes + i));
                for (unsigned k = 0; k < 4; ++k)
                    found[k] = _mm256_sub_epi8(found[k], _mm256_cmpeq_epi8(of, wanted[k]));
            }
            for (unsigned k = 0; k < 4; ++k) {
                alignas(32) std::uint64_t sums[4];
                _mm256_store_si256(reinterpret_cast<__m256i*>(sums),
                                   _mm256_sad_epu8(found[k], _mm256_setzero_si256()));
                counts[c + k] += static_cast<std::uint32_t>(sums[0] + sums[1] + sums[2] + sums[3]);
            }
        }
    }
    return whole;
}

}  // namespace nncodec::class_order
#endif
