// A look at 128 classes, and expanding moves for each different one among them.
#if defined(__AVX512VBMI2__)
#if !defined(__clang__)
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"  // GCC 12 sees its own _mm512_undefined_* that way
#pragma GCC diagnostic ignored "-Wuninitialized"
#endif
#include <immintrin.h>

#include "quantize/class_order_kernels.hpp"

namespace nncodec::class_order {
namespace {

// Places that one look serves: to find the next class takes as long as to move its values in all of them.
constexpr std::size_t kAtOnce = 128;
constexpr std::size_t kVectors = kAtOnce / 32;

// Values of one class, in order, to the places of the mask. Reads 64 bytes, or with kMasked what it needs.
template <bool kMasked>
inline __m512i place(__m512i restored, std::uint32_t mine, const std::int16_t*& values) noexcept {
    const auto count = static_cast<unsigned>(__builtin_popcount(mine));
    const __m512i from =
        kMasked ? _mm512_maskz_loadu_epi16(_bzhi_u32(~0U, count), values) : _mm512_loadu_si512(values);
    values += count;
    return _mm512_mask_expand_epi16(restored, mine, from);
}

template <bool kMasked>
inline void place_all(__m512i (&restored)[kVectors], std::uint64_t low, std::uint64_t high,
                      const std::int16_t* values) noexcept {
    restored[0] = place<kMasked>(restored[0], static_cast<std::uint32_t>(low), values);
    restored[1] = place<kMasked>(restored[1], static_cast<std::uint32_t>(low >> 32), values);
    restored[2] = place<kMasked>(restored[2], static_cast<std::uint32_t>(high), values);
    restored[3] = place<kMasked>(restored[3], static_cast<std::uint32_t>(high >> 32), values);
}

// A table of 256 bytes in registers.
struct ByteMap {
    __m512i part[4];

    explicit ByteMap(const std::uint8_t* map) noexcept {
        for (int i = 0; i < 4; ++i) part[i] = _mm512_loadu_si512(map + 64 * i);
    }
    __m512i operator()(__m512i index) const noexcept {
        return _mm512_mask_mov_epi8(_mm512_permutex2var_epi8(part[0], index, part[1]),
                                    _mm512_movepi8_mask(index),
                                    _mm512_permutex2var_epi8(part[2], index, part[3]));
    }
};

// Clamped to 0 .. 255.
inline __m256i to_bytes(__m512i sum) noexcept {
    return _mm512_cvtusepi16_epi8(_mm512_max_epi16(sum, _mm512_setzero_si512()));
}

}  // namespace

void classes_of_row_avx512(int own, const std::int16_t* parts, std::size_t n, const std::uint8_t* map,
                           std::uint8_t* out) noexcept {
    const ByteMap table(map);
    const __m512i base = _mm512_set1_epi16(static_cast<short>(own));
    for (std::size_t i = 0; i < n; i += 64) {
        const std::uint64_t mask = n - i >= 64 ? ~std::uint64_t{0} : (std::uint64_t{1} << (n - i)) - 1;
        const __m512i first = _mm512_maskz_loadu_epi16(static_cast<__mmask32>(mask), parts + i);
        const __m512i second = _mm512_maskz_loadu_epi16(static_cast<__mmask32>(mask >> 32), parts + i + 32);
        const __m512i sums =
            _mm512_inserti64x4(_mm512_castsi256_si512(to_bytes(_mm512_adds_epi16(first, base))),
                               to_bytes(_mm512_adds_epi16(second, base)), 1);
        _mm512_mask_storeu_epi8(out + i, mask, table(sums));
    }
}

std::size_t count_avx512(const std::uint8_t* classes, std::size_t n, unsigned n_classes,
                         std::uint32_t* counts) noexcept {
    constexpr std::size_t kBlock = 255 * 64;  // as many as a byte counts, and the nearest cache holds
    const std::size_t whole = n / 64 * 64;
    const __m512i one = _mm512_set1_epi8(1);
    for (std::size_t begin = 0; begin < whole; begin += kBlock) {
        const std::size_t end = whole - begin < kBlock ? whole : begin + kBlock;
        for (unsigned c = 0; c < n_classes; c += 4) {  // four at a time: counters of those above are 0
            __m512i wanted[4];
            __m512i found[4] = {};
            for (unsigned k = 0; k < 4; ++k) wanted[k] = _mm512_set1_epi8(static_cast<char>(c + k));
            for (std::size_t i = begin; i < end; i += 64) {
                const __m512i of = _mm512_loadu_si512(classes + i);
                for (unsigned k = 0; k < 4; ++k)
                    found[k] =
                        _mm512_mask_add_epi8(found[k], _mm512_cmpeq_epi8_mask(of, wanted[k]), found[k], one);
            }
            for (unsigned k = 0; k < 4; ++k) {
                counts[c + k] += static_cast<std::uint32_t>(
                    _mm512_reduce_add_epi64(_mm512_sad_epu8(found[k], _mm512_setzero_si512())));
            }
        }
    }
    return whole;
}

std::size_t restore_avx512(const std::uint8_t* classes, std::size_t n, const std::int16_t* values,
                           std::uint32_t* next, std::int16_t* out) noexcept {
    std::size_t i = 0;
    for (; i + kAtOnce <= n; i += kAtOnce) {
        const __m512i first = _mm512_loadu_si512(classes + i);
        const __m512i second = _mm512_loadu_si512(classes + i + 64);
        __m512i restored[kVectors] = {};
        std::uint64_t left[2] = {~std::uint64_t{0}, ~std::uint64_t{0}};
        do {
            const std::size_t at = left[0] != 0 ? _tzcnt_u64(left[0]) : 64 + _tzcnt_u64(left[1]);
            const std::uint8_t c = classes[i + at];
            const __m512i wanted = _mm512_set1_epi8(static_cast<char>(c));
            const std::uint64_t low = _mm512_cmpeq_epi8_mask(first, wanted);
            const std::uint64_t high = _mm512_cmpeq_epi8_mask(second, wanted);
            left[0] &= ~low;
            left[1] &= ~high;
            const std::int16_t* from = values + next[c];
            next[c] += static_cast<std::uint32_t>(__builtin_popcountll(low) + __builtin_popcountll(high));
            if (n - kAtOnce >= static_cast<std::size_t>(from - values)) {
                place_all<false>(restored, low, high, from);
            } else {
                place_all<true>(restored, low, high, from);
            }
        } while ((left[0] | left[1]) != 0);
        for (std::size_t v = 0; v < kVectors; ++v) _mm512_storeu_si512(out + i + 32 * v, restored[v]);
    }
    return i;
}

}  // namespace nncodec::class_order
#endif
