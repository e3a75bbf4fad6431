// rANS states of 8 lanes taking words from the stream, for kernels of AVX2.
#pragma once

#include <immintrin.h>

#include <cstdint>

namespace nncodec::rans {
namespace {

// For each set of lanes: which of the next words lane i takes, were it in the set: the number of lanes before
// it there.
struct WordOrder {
    alignas(64) std::uint64_t of[256];
};
constexpr WordOrder kWordOrder = [] {
    WordOrder order{};
    for (unsigned set = 0; set < 256; ++set) {
        std::uint64_t next = 0;
        for (unsigned lane = 0; lane < 8; ++lane) {
            order.of[set] |= next << (8 * lane);
            next += (set >> lane) & 1;
        }
    }
    return order;
}();

// Lanes of those wanted that fell below 2^16 take the next words in ascending order. Reads 16 bytes.
inline __m256i refill(__m256i state, __m256i wanted, const std::uint8_t*& words) noexcept {
    const __m256i low =
        _mm256_and_si256(wanted, _mm256_cmpeq_epi32(_mm256_srli_epi32(state, 16), _mm256_setzero_si256()));
    const auto set = static_cast<unsigned>(_mm256_movemask_ps(_mm256_castsi256_ps(low)));
    const __m256i next = _mm256_cvtepu16_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(words)));
    const __m256i order =
        _mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(&kWordOrder.of[set])));
    words += 2 * static_cast<unsigned>(__builtin_popcount(set));
    const __m256i refilled =
        _mm256_or_si256(_mm256_slli_epi32(state, 16), _mm256_permutevar8x32_epi32(next, order));
    return _mm256_blendv_epi8(state, refilled, low);
}

}  // namespace
}  // namespace nncodec::rans
