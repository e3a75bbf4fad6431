#if defined(__AVX512VNNI__)
#if !defined(__clang__)
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"  // GCC 12 sees its own _mm512_undefined_* that way
#pragma GCC diagnostic ignored "-Wuninitialized"
#endif
#include <immintrin.h>

#include "transform/klt_integer_kernels.hpp"

namespace nncodec::klt {
namespace {

// Two numbers of a row, in each 32 bits.
inline __m512i two_of(const std::int16_t* from) noexcept {
    int both;
    __builtin_memcpy(&both, from, sizeof both);
    return _mm512_set1_epi32(both);
}

// sum + products of two neighbours each. By hand: GCC 12 copies the sum before and after its own intrinsic.
inline void accumulate(__m512i& sum, __m512i a, __m512i b) noexcept {
    __asm__("vpdpwssd %2, %1, %0" : "+v"(sum) : "v"(a), "v"(b));
}

// Sums of a row: named, for compilers that keep arrays of registers in memory.
struct Sums {
    __m512i a = _mm512_setzero_si512();
    __m512i b = _mm512_setzero_si512();
    __m512i c = _mm512_setzero_si512();
};

template <bool kThree>
inline void add(Sums& sums, const std::int16_t* in, __m512i a, __m512i b, __m512i c) noexcept {
    const __m512i two = two_of(in);
    accumulate(sums.a, two, a);
    if constexpr (!kThree) return;
    accumulate(sums.b, two, b);
    accumulate(sums.c, two, c);
}

template <bool kThree>
inline void store(const IntegerTask& task, std::size_t row, std::size_t column, const Sums& sums) noexcept {
    const __m512 unit = _mm512_set1_ps(task.unit);
    const auto put = [&](std::size_t at, __m512i sum) {
        const std::size_t left = task.n - at;
        const auto mask = static_cast<__mmask16>(left >= 16 ? 0xFFFF : (1U << left) - 1);
        _mm512_mask_storeu_ps(task.out + row * task.n + at, mask,
                              _mm512_mul_ps(_mm512_cvtepi32_ps(sum), unit));
    };
    put(column, sums.a);
    if constexpr (!kThree) return;
    put(column + 16, sums.b);
    put(column + 32, sums.c);
}

// kIntegerRows rows from `row` on, one or three vectors of columns from `column` on.
template <bool kThree>
void multiply(const IntegerTask& task, std::size_t row, std::size_t column) noexcept {
    const std::size_t n = task.n;
    const std::int16_t* in = task.in + row * n;
    const std::int16_t* from = task.entries + integer_entry_at(0, column, task.pairs);
    const std::size_t strip = 2 * kIntegerStrip * task.pairs;
    Sums s0, s1, s2, s3, s4, s5, s6, s7;
    for (std::size_t p = 0; p < task.pairs; ++p, from += 2 * kIntegerStrip, in += 2) {
        const __m512i a = _mm512_loadu_si512(from);
        const __m512i b = kThree ? _mm512_loadu_si512(from + strip) : a;
        const __m512i c = kThree ? _mm512_loadu_si512(from + 2 * strip) : a;
        add<kThree>(s0, in, a, b, c);
        add<kThree>(s1, in + n, a, b, c);
        add<kThree>(s2, in + 2 * n, a, b, c);
        add<kThree>(s3, in + 3 * n, a, b, c);
        add<kThree>(s4, in + 4 * n, a, b, c);
        add<kThree>(s5, in + 5 * n, a, b, c);
        add<kThree>(s6, in + 6 * n, a, b, c);
        add<kThree>(s7, in + 7 * n, a, b, c);
    }
    store<kThree>(task, row, column, s0);
    store<kThree>(task, row + 1, column, s1);
    store<kThree>(task, row + 2, column, s2);
    store<kThree>(task, row + 3, column, s3);
    store<kThree>(task, row + 4, column, s4);
    store<kThree>(task, row + 5, column, s5);
    store<kThree>(task, row + 6, column, s6);
    store<kThree>(task, row + 7, column, s7);
}

}  // namespace

// So many rows for each block of columns that the block's part of the basis, in the nearest cache, serves
// often.
void multiply_integers_avx512(const IntegerTask& task) noexcept {
    constexpr std::size_t kRows = 16 * kIntegerRows;
    for (std::size_t first = 0; first < task.rows; first += kRows) {
        const std::size_t end = first + kRows < task.rows ? first + kRows : task.rows;
        std::size_t column = 0;
        const std::size_t columns = (task.n + kIntegerStrip - 1) / kIntegerStrip * kIntegerStrip;
        for (; column + 48 <= columns; column += 48) {
            for (std::size_t row = first; row < end; row += kIntegerRows) multiply<true>(task, row, column);
        }
        for (; column < columns; column += kIntegerStrip) {
            for (std::size_t row = first; row < end; row += kIntegerRows) multiply<false>(task, row, column);
        }
    }
}

}  // namespace nncodec::klt
#endif
