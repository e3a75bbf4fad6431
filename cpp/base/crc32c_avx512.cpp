// CRC-32C by carry-less multiplication of 64 bytes at a time (VPCLMULQDQ), after Gopal et al., "Fast CRC
// computation for generic polynomials using PCLMULQDQ" (Intel, 2009).
#if defined(__VPCLMULQDQ__) && defined(__AVX512F__)
#if !defined(__clang__)
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"  // GCC 12 sees its own _mm512_undefined_* that way
#pragma GCC diagnostic ignored "-Wuninitialized"
#endif
#include <immintrin.h>

#include "base/crc32c_kernels.hpp"

namespace nncodec {
namespace {

// x^n mod P, bit i being the coefficient of x^(31-i).
constexpr std::uint64_t power(unsigned n) {
    std::uint32_t r = 1U << 31;
    for (; n != 0; --n) r = (r >> 1) ^ ((r & 1) != 0 ? kCrcPolynomial : 0);
    return r;
}

// Multiplies 128 bits, whose first 64 have the higher powers, by x^(8 * bytes) modulo P. In this bit order
// the instruction's product is x times too great.
struct Factors {
    std::uint64_t first, second;
};
constexpr Factors skip(unsigned bytes) {
    return {power(8 * bytes + 63) << 32, power(8 * bytes - 1) << 32};
}

inline __m512i repeat(Factors k) noexcept {
    const auto a = static_cast<long long>(k.first);
    const auto b = static_cast<long long>(k.second);
    return _mm512_setr_epi64(a, b, a, b, a, b, a, b);
}

// So far ahead of memory that is not cached yet a core asks for it by itself too late; it may lie beyond the
// end.
constexpr std::size_t kAhead = 4096;

// Each 128 bits times their factor, plus `next`.
inline __m512i fold(__m512i sum, __m512i k, __m512i next) noexcept {
    return _mm512_ternarylogic_epi64(_mm512_clmulepi64_epi128(sum, k, 0x00),
                                     _mm512_clmulepi64_epi128(sum, k, 0x11), next, 0x96);
}

inline __m512i load(const std::uint8_t* p) noexcept {
    return _mm512_loadu_si512(p);
}

}  // namespace

std::uint32_t crc_fold_avx512(const std::uint8_t* p, std::size_t n, std::uint32_t crc) noexcept {
    constexpr Factors k16 = skip(16), k32 = skip(32), k48 = skip(48), k64 = skip(64), k128 = skip(128),
                      k192 = skip(192), k256 = skip(256);
    __m512i a = _mm512_xor_si512(load(p), _mm512_zextsi128_si512(_mm_cvtsi32_si128(static_cast<int>(crc))));
    __m512i b = load(p + 64);
    __m512i c = load(p + 128);
    __m512i d = load(p + 192);
    const __m512i by256 = repeat(k256);
    for (p += 256, n -= 256; n >= 256; p += 256, n -= 256) {
        for (std::size_t line = 0; line < 256; line += 64)
            _mm_prefetch(reinterpret_cast<const char*>(p) + kAhead + line, _MM_HINT_T0);
        a = fold(a, by256, load(p));
        b = fold(b, by256, load(p + 64));
        c = fold(c, by256, load(p + 128));
        d = fold(d, by256, load(p + 192));
    }
    const __m512i by64 = repeat(k64);
    d = fold(c, by64, fold(b, repeat(k128), fold(a, repeat(k192), d)));
    for (; n >= 64; p += 64, n -= 64) d = fold(d, by64, load(p));

    // The first three quarters move on to the last one, which stays.
    constexpr auto number = [](std::uint64_t x) { return static_cast<long long>(x); };
    const __m512i to_last =
        _mm512_setr_epi64(number(k48.first), number(k48.second), number(k32.first), number(k32.second),
                          number(k16.first), number(k16.second), 0, 0);
    const __m512i e = fold(d, to_last, _mm512_maskz_mov_epi64(0xC0, d));
    const __m256i f = _mm256_xor_si256(_mm512_castsi512_si256(e), _mm512_extracti64x4_epi64(e, 1));
    const __m128i g = _mm_xor_si128(_mm256_castsi256_si128(f), _mm256_extracti128_si256(f, 1));
    const std::uint64_t first = _mm_crc32_u64(0, static_cast<std::uint64_t>(_mm_cvtsi128_si64(g)));
    return static_cast<std::uint32_t>(
        _mm_crc32_u64(first, static_cast<std::uint64_t>(_mm_extract_epi64(g, 1))));
}

}  // namespace nncodec
#endif
