// rANS encoding with AVX2: 16, 32 or 64 lanes, prob_bits 12, three gathers for eight symbols.
#if defined(__AVX2__)
#include <immintrin.h>

#include "entropy/rans_kernels.hpp"

namespace nncodec::rans {
namespace {

constexpr int kVector = 8;  // lanes in a register

// For each set of eight lanes: where their words come from so that they end where a register ends.
struct WordOrder {
    alignas(64) std::uint8_t of[256][16];
};
constexpr WordOrder kWordOrder = [] {
    WordOrder order{};
    for (unsigned set = 0; set < 256; ++set) {
        int next = 14;
        for (int lane = kVector; lane-- > 0;) {
            if ((set >> lane & 1) == 0) continue;
            order.of[set][next] = static_cast<std::uint8_t>(2 * lane);
            order.of[set][next + 1] = static_cast<std::uint8_t>(2 * lane + 1);
            next -= 2;
        }
    }
    return order;
}();

// Writes the words of the lanes in `set` before `words`.
inline void push(__m128i low16, unsigned set, std::uint16_t*& words) noexcept {
    const __m128i order = _mm_load_si128(reinterpret_cast<const __m128i*>(kWordOrder.of[set]));
    _mm_storeu_si128(reinterpret_cast<__m128i*>(words - kVector), _mm_shuffle_epi8(low16, order));
    words -= __builtin_popcount(set);
}

inline __m256i load_bytes(const std::uint8_t* bytes) noexcept {
    return _mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(bytes)));
}

// One register's symbols and how they are coded.
struct Coding {
    __m256i frequency, place, divisor;  // `place`: index of the first place in the array of slots
};

template <bool kColumns>
inline Coding find(const EncodeTask& task, std::size_t row_table, const std::uint8_t* symbols,
                   const std::uint8_t* contexts) noexcept {
    __m256i table = _mm256_set1_epi32(static_cast<int>(row_table));
    if constexpr (kColumns) table = _mm256_add_epi32(table, load_bytes(contexts));
    const __m256i index = _mm256_add_epi32(load_bytes(symbols), _mm256_slli_epi32(table, 8));
    const __m256i entry = _mm256_i32gather_epi32(reinterpret_cast<const int*>(task.packed), index, 4);
    return {_mm256_and_si256(entry, _mm256_set1_epi32(0xFFFF)),
            _mm256_add_epi32(_mm256_srli_epi32(entry, 16), _mm256_slli_epi32(table, 12)),
            _mm256_i32gather_epi32(reinterpret_cast<const int*>(task.divisor), index, 4)};
}

// The states after their symbols. Lanes that are not in `roomy` have handed over their low words.
inline __m256i encode(__m256i state, __m256i roomy, const Coding& coding,
                      const std::uint16_t* slots) noexcept {
    const __m256i f = coding.frequency;
    const __m256i x = _mm256_srlv_epi32(state, _mm256_andnot_si256(roomy, _mm256_set1_epi32(16)));
    // x * floor((2^32 - 1) / f) / 2^32 falls short of x / f by at most one.
    const __m256i even = _mm256_mul_epu32(x, coding.divisor);
    const __m256i odd = _mm256_mul_epu32(_mm256_srli_epi64(x, 32), _mm256_srli_epi64(coding.divisor, 32));
    const __m256i quotient = _mm256_blend_epi32(_mm256_srli_epi64(even, 32), odd, 0xAA);
    const __m256i rest = _mm256_sub_epi32(x, _mm256_mullo_epi32(quotient, f));
    const __m256i right = _mm256_cmpgt_epi32(f, rest);
    const __m256i place = _mm256_sub_epi32(rest, _mm256_andnot_si256(right, f));
    const __m256i slot =
        _mm256_i32gather_epi32(reinterpret_cast<const int*>(slots), _mm256_add_epi32(coding.place, place), 2);
    // quotient + 1 + right, all shifted: `right` is -1 or 0.
    const __m256i upper = _mm256_slli_epi32(_mm256_add_epi32(quotient, right), 12);
    return _mm256_add_epi32(_mm256_add_epi32(upper, _mm256_set1_epi32(1 << 12)),
                            _mm256_and_si256(slot, _mm256_set1_epi32(0xFFFF)));
}

// Sixteen lanes; false if a symbol has frequency 0.
template <bool kColumns>
inline bool encode_pair(const EncodeTask& task, std::size_t row_table, const std::uint8_t* symbols,
                        const std::uint8_t* contexts, std::uint32_t* states, std::uint16_t*& words) noexcept {
    const Coding first = find<kColumns>(task, row_table, symbols, contexts);
    const Coding second =
        find<kColumns>(task, row_table, symbols + kVector, kColumns ? contexts + kVector : nullptr);
    const __m256i least = _mm256_min_epu32(first.frequency, second.frequency);
    if (_mm256_movemask_epi8(_mm256_cmpeq_epi32(least, _mm256_setzero_si256())) != 0) return false;

    const __m256i a = _mm256_load_si256(reinterpret_cast<const __m256i*>(states));
    const __m256i b = _mm256_load_si256(reinterpret_cast<const __m256i*>(states + kVector));
    const __m256i a_roomy = _mm256_cmpgt_epi32(first.frequency, _mm256_srli_epi32(a, 20));
    const __m256i b_roomy = _mm256_cmpgt_epi32(second.frequency, _mm256_srli_epi32(b, 20));
    const __m256i low = _mm256_set1_epi32(0xFFFF);
    const __m256i low16 = _mm256_permute4x64_epi64(
        _mm256_packus_epi32(_mm256_and_si256(a, low), _mm256_and_si256(b, low)), 0xD8);
    push(_mm256_extracti128_si256(low16, 1),
         0xFFU ^ static_cast<unsigned>(_mm256_movemask_ps(_mm256_castsi256_ps(b_roomy))), words);
    push(_mm256_castsi256_si128(low16),
         0xFFU ^ static_cast<unsigned>(_mm256_movemask_ps(_mm256_castsi256_ps(a_roomy))), words);
    _mm256_store_si256(reinterpret_cast<__m256i*>(states), encode(a, a_roomy, first, task.slots));
    _mm256_store_si256(reinterpret_cast<__m256i*>(states + kVector), encode(b, b_roomy, second, task.slots));
    return true;
}

template <bool kColumns>
bool encode_steps(const EncodeTask& task, std::size_t row_table, std::size_t first, std::size_t steps,
                  EncodeProgress& progress) noexcept {
    std::uint16_t* words = progress.words;
    for (std::size_t column = steps * task.lanes; column != 0;) {
        for (unsigned lane = task.lanes; lane != 0;) {
            lane -= 2 * kVector;
            column -= 2 * kVector;
            if (!encode_pair<kColumns>(task, row_table, task.symbols + first + column,
                                       kColumns ? task.column_context + column : nullptr,
                                       progress.states + lane, words)) {
                return false;
            }
        }
    }
    progress.words = words;
    return true;
}

}  // namespace

bool encode_steps_avx2(const EncodeTask& task, std::size_t row_table, std::size_t first, std::size_t steps,
                       EncodeProgress& progress) noexcept {
    return task.column_context == nullptr ? encode_steps<false>(task, row_table, first, steps, progress)
                                          : encode_steps<true>(task, row_table, first, steps, progress);
}

}  // namespace nncodec::rans
#endif
