#if defined(__x86_64__)

#if !defined(__clang__)
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"  // GCC 12 sees its own _mm512_undefined_* that way
#endif
#include <immintrin.h>

#include "retrieval/ribbon_impl.hpp"

namespace nncodec::ribbon {
namespace {

// All bits of a code at once: a lane for each, and a sum of products per word of the window.
template <unsigned kStride, unsigned kWords>
void scan_all(const Scan& scan, std::vector<Hit>& out) {
    const Geometry geometry(scan.shape);
    const __m512i one = _mm512_set1_epi64(1);
    const __m512i limit = _mm512_set1_epi32(static_cast<int>(scan.limit));
    const __m512i used = _mm512_set1_epi32(static_cast<int>((1U << scan.shape.bits) - 1));
    Batch batch;
    alignas(64) std::uint32_t code[kBatch];
    for (Key first = scan.first; first < scan.end; first += kBatch) {
        batch.fill(scan, geometry, first);
        for (unsigned i = 0; i < kBatch; ++i) {
            const std::uint64_t* const window = scan.table + std::size_t{batch.block[i]} * kStride;
            std::uint32_t bits = 0;
            for (unsigned half = 0; half < kStride / 8; ++half) {
                __m512i sum = _mm512_setzero_si512();
                for (unsigned k = 0; k < kWords; ++k) {
                    const __m512i row = _mm512_set1_epi64(static_cast<long long>(batch.word[k][i]));
                    const __m512i slots = _mm512_load_si512(window + k * kStride + 8 * half);
                    sum = _mm512_ternarylogic_epi64(sum, row, slots, 0x78);  // sum ^ (row & slots)
                }
                const __mmask8 odd = _mm512_test_epi64_mask(_mm512_popcnt_epi64(sum), one);
                bits |= static_cast<std::uint32_t>(_cvtmask8_u32(odd)) << (8 * half);
            }
            code[i] = bits;
        }
        const unsigned n = std::min<Key>(kBatch, scan.end - first);
        for (unsigned i = 0; i < n; i += 16) {
            const __m512i low = _mm512_permutex2var_epi32(
                _mm512_load_si512(batch.hash + i),
                _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30),
                _mm512_load_si512(batch.hash + i + 8));
            const __m512i codes = _mm512_xor_si512(_mm512_load_si512(code + i), _mm512_and_si512(low, used));
            unsigned found = _cvtmask16_u32(_mm512_cmplt_epu32_mask(codes, limit));
            if (n - i < 16) found &= (1U << (n - i)) - 1;
            if (found == 0) continue;
            _mm512_store_si512(code + i, codes);
            for (; found != 0; found &= found - 1) {
                const auto at = i + static_cast<unsigned>(std::countr_zero(found));
                out.push_back({first + at, static_cast<std::uint16_t>(code[at])});
            }
        }
    }
}

template <unsigned kStride>
void scan_words(const Scan& scan, std::vector<Hit>& out) {
    switch (scan.shape.words) {
        case 1:
            return scan_all<kStride, 1>(scan, out);
        case 2:
            return scan_all<kStride, 2>(scan, out);
        case 3:
            return scan_all<kStride, 3>(scan, out);
        case 4:
            return scan_all<kStride, 4>(scan, out);
        case 5:
            return scan_all<kStride, 5>(scan, out);
        case 6:
            return scan_all<kStride, 6>(scan, out);
        default:
            return scan_all<kStride, 7>(scan, out);
    }
}

void hits_at_once(const Scan& scan, std::vector<Hit>& out) {
    return stride_of(scan.shape.bits) == 8 ? scan_words<8>(scan, out) : scan_words<16>(scan, out);
}

}  // namespace

constinit const Kernels kAvx512Kernels{&solve, &hits_at_once};

}  // namespace nncodec::ribbon

#endif
