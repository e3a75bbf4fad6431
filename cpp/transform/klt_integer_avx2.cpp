#if defined(__AVX2__)
#include <immintrin.h>

#include "transform/klt_integer_kernels.hpp"

namespace nncodec::klt {
namespace {

// Two numbers of a row, in each 32 bits.
inline __m256i two_of(const std::int16_t* from) noexcept {
    int both;
    __builtin_memcpy(&both, from, sizeof both);
    return _mm256_set1_epi32(both);
}

inline void store(float* to, __m256i sum, __m256 unit, std::size_t count) noexcept {
    const __m256 x = _mm256_mul_ps(_mm256_cvtepi32_ps(sum), unit);
    if (count >= 8) return _mm256_storeu_ps(to, x);
    alignas(32) float all[8];
    _mm256_store_ps(all, x);
    for (std::size_t i = 0; i < count; ++i) to[i] = all[i];
}

}  // namespace

// So many rows for each strip that the strip, in the nearest cache, serves often.
void multiply_integers_avx2(const IntegerTask& task) noexcept {
    constexpr std::size_t kRows = 4;
    constexpr std::size_t kBlock = 32 * kRows;
    const __m256 unit = _mm256_set1_ps(task.unit);
    for (std::size_t first = 0; first < task.rows; first += kBlock) {
        const std::size_t end = first + kBlock < task.rows ? first + kBlock : task.rows;
        for (std::size_t column = 0; column < task.n; column += kIntegerStrip) {
            const std::int16_t* const strip = task.entries + integer_entry_at(0, column, task.pairs);
            const std::size_t left = task.n - column;
            for (std::size_t row = first; row < end; row += kRows) {
                const std::int16_t* const in = task.in + row * task.n;
                __m256i sum[kRows][2];
                for (auto& of_row : sum) of_row[0] = of_row[1] = _mm256_setzero_si256();
                for (std::size_t p = 0; p < task.pairs; ++p) {
                    const auto* const from = reinterpret_cast<const __m256i*>(strip + 2 * p * kIntegerStrip);
                    const __m256i b0 = _mm256_loadu_si256(from);
                    const __m256i b1 = _mm256_loadu_si256(from + 1);
                    for (std::size_t r = 0; r < kRows; ++r) {
                        const __m256i a = two_of(in + r * task.n + 2 * p);
                        sum[r][0] = _mm256_add_epi32(sum[r][0], _mm256_madd_epi16(a, b0));
                        sum[r][1] = _mm256_add_epi32(sum[r][1], _mm256_madd_epi16(a, b1));
                    }
                }
                for (std::size_t r = 0; r < kRows; ++r) {
                    float* const to = task.out + (row + r) * task.n + column;
                    store(to, sum[r][0], unit, left);
                    if (left > 8) store(to + 8, sum[r][1], unit, left - 8);
                }
            }
        }
    }
}

}  // namespace nncodec::klt
#endif
