// rANS decoding with AVX2: 16, 32 or 64 lanes, prob_bits 12, one gather for eight symbols.
#if defined(__AVX2__)
#include <immintrin.h>

#include "entropy/rans_kernels.hpp"
#include "entropy/rans_refill_avx2.hpp"

namespace nncodec::rans {
namespace {

constexpr int kVector = 8;  // lanes in a register

// Four vectors of numbers below 256 as 32 bytes in order.
inline __m256i narrow(__m256i a, __m256i b, __m256i c, __m256i d) noexcept {
    const __m256i packed = _mm256_packus_epi16(_mm256_packus_epi32(a, b), _mm256_packus_epi32(c, d));
    return _mm256_permutevar8x32_epi32(packed, _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7));
}

// Whole steps only; the scalar kernel does the last symbols of each row.
template <int kVectors, bool kColumns>
void decode_steps(const DecodeTask& task, std::size_t row_table, std::size_t steps,
                  DecodeProgress& progress) noexcept {
    constexpr std::size_t kLanes = kVectors * kVector;
    constexpr std::size_t kMargin = 2 * kLanes + 16;  // the words of a step, and what refill reads too far
    const __m256i slot_mask = _mm256_set1_epi32(0xFFF);
    const __m256i byte_mask = _mm256_set1_epi32(0xFF);
    const auto* const slots = reinterpret_cast<const int*>(task.slots + (row_table << 12));
    __m256i state[kVectors];
    for (int v = 0; v < kVectors; ++v) {
        state[v] = _mm256_load_si256(reinterpret_cast<const __m256i*>(progress.states + v * kVector));
    }
    const std::uint8_t* words = progress.words;
    const std::uint8_t* contexts = kColumns ? task.column_context + progress.column : nullptr;
    std::uint8_t* out = progress.out;
    for (; steps != 0 && static_cast<std::size_t>(progress.end - words) >= kMargin; --steps) {
        __m256i entry[kVectors];
        for (int v = 0; v < kVectors; ++v) {
            __m256i index = _mm256_and_si256(state[v], slot_mask);
            if constexpr (kColumns) {
                const __m256i context = _mm256_cvtepu8_epi32(
                    _mm_loadl_epi64(reinterpret_cast<const __m128i*>(contexts + v * kVector)));
                index = _mm256_add_epi32(index, _mm256_slli_epi32(context, 12));
            }
            entry[v] = _mm256_i32gather_epi32(slots, index, 4);
        }
        for (int v = 0; v < kVectors; ++v) {
            const __m256i upper = _mm256_srli_epi32(state[v], 12);
            const __m256i place = _mm256_and_si256(_mm256_srli_epi32(entry[v], 8), slot_mask);
            const __m256i next = _mm256_add_epi32(_mm256_mullo_epi32(_mm256_srli_epi32(entry[v], 20), upper),
                                                  _mm256_add_epi32(upper, place));
            state[v] = refill(next, _mm256_set1_epi32(-1), words);
            entry[v] = _mm256_and_si256(entry[v], byte_mask);
        }
        if constexpr (kVectors == 2) {
            const __m256i bytes = narrow(entry[0], entry[1], entry[0], entry[1]);
            _mm_storeu_si128(reinterpret_cast<__m128i*>(out), _mm256_castsi256_si128(bytes));
        } else {
            for (int v = 0; v < kVectors; v += 4) {
                _mm256_storeu_si256(reinterpret_cast<__m256i*>(out + v * kVector),
                                    narrow(entry[v], entry[v + 1], entry[v + 2], entry[v + 3]));
            }
        }
        out += kLanes;
        contexts += kColumns ? kLanes : 0;
    }
    for (int v = 0; v < kVectors; ++v) {
        _mm256_store_si256(reinterpret_cast<__m256i*>(progress.states + v * kVector), state[v]);
    }
    progress.words = words;
    progress.column += static_cast<std::size_t>(out - progress.out);
    progress.out = out;
}

}  // namespace

void decode_row_avx2(const DecodeTask& task, std::size_t row_table, std::size_t count,
                     DecodeProgress& progress) noexcept {
    const std::size_t steps = (count - progress.column) / task.lanes;
    const bool columns = task.column_context != nullptr;
    const auto decode = task.lanes == 64   ? (columns ? decode_steps<8, true> : decode_steps<8, false>)
                        : task.lanes == 32 ? (columns ? decode_steps<4, true> : decode_steps<4, false>)
                                           : (columns ? decode_steps<2, true> : decode_steps<2, false>);
    decode(task, row_table, steps, progress);
}

}  // namespace nncodec::rans
#endif
