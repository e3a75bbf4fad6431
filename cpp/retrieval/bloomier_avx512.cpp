#if defined(__x86_64__)

#if !defined(__clang__)
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"  // GCC 12 sees its own _mm512_undefined_* that way
#endif
#include <immintrin.h>

#include "retrieval/bloomier_kernels.hpp"

namespace nncodec::bloomier {
namespace {

constexpr unsigned kLanes = 8;

__m512i mixed(__m512i x) noexcept {
    x = _mm512_xor_si512(x, _mm512_srli_epi64(x, 30));
    x = _mm512_mullo_epi64(x, _mm512_set1_epi64(static_cast<long long>(0xBF58476D1CE4E5B9U)));
    x = _mm512_xor_si512(x, _mm512_srli_epi64(x, 27));
    x = _mm512_mullo_epi64(x, _mm512_set1_epi64(static_cast<long long>(0x94D049BB133111EBU)));
    return _mm512_xor_si512(x, _mm512_srli_epi64(x, 31));
}

__m512i word_of(__m512i hash, unsigned k) noexcept {
    const __m512i low = _mm512_mul_epu32(hash, _mm512_set1_epi64(retrieval::kFactors[k].low));
    const __m512i high =
        _mm512_mul_epu32(_mm512_srli_epi64(hash, 32), _mm512_set1_epi64(retrieval::kFactors[k].high));
    return _mm512_xor_si512(low, _mm512_rol_epi64(high, 32));
}

}  // namespace

void hits_avx512(const Scan& scan, std::vector<Hit>& out) {
    const __m512i third = _mm512_set1_epi64(scan.shape.third);
    const __m512i bits = _mm512_set1_epi64(scan.shape.bits);
    const __m512i used = _mm512_set1_epi64((1LL << scan.shape.bits) - 1);
    const __m512i limit = _mm512_set1_epi64(scan.limit);
    const __m512i seven = _mm512_set1_epi64(7);
    const __m512i state = _mm512_set1_epi64(static_cast<long long>(scan.state));
    const __m512i lane = _mm512_setr_epi64(0, 1, 2, 3, 4, 5, 6, 7);
    const auto cell = [&](__m512i word, __m512i base) {
        const __m512i place = _mm512_add_epi64(
            base, _mm512_srli_epi64(_mm512_mul_epu32(_mm512_srli_epi64(word, 32), third), 32));
        const __m512i at = _mm512_mul_epu32(place, bits);
        const __m512i loaded = _mm512_i64gather_epi64(_mm512_srli_epi64(at, 3), scan.table, 1);
        return _mm512_srlv_epi64(loaded, _mm512_and_si512(at, seven));
    };
    for (Key first = scan.first; first < scan.end; first += kLanes) {
        const __m512i key = _mm512_add_epi64(_mm512_set1_epi64(first), lane);
        const __m512i hash = mixed(_mm512_xor_si512(key, state));
        const __m512i sum =
            _mm512_ternarylogic_epi64(cell(hash, _mm512_setzero_si512()), cell(word_of(hash, 0), third),
                                      cell(word_of(hash, 1), _mm512_add_epi64(third, third)), 0x96);
        const __m512i codes = _mm512_and_si512(_mm512_xor_si512(sum, hash), used);
        unsigned found = _cvtmask8_u32(_mm512_cmplt_epu64_mask(codes, limit));
        if (scan.end - first < kLanes) found &= (1U << (scan.end - first)) - 1;
        if (found == 0) continue;
        alignas(64) std::uint64_t code[kLanes];
        _mm512_store_si512(code, codes);
        for (; found != 0; found &= found - 1) {
            const auto at = static_cast<unsigned>(std::countr_zero(found));
            out.push_back({first + at, static_cast<std::uint16_t>(code[at])});
        }
    }
}

}  // namespace nncodec::bloomier

#endif
