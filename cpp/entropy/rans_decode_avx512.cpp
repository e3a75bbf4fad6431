// rANS decoding with AVX-512 (F, BW, VL, VBMI, VBMI2): 16, 32 or 64 lanes, prob_bits 12.
#if defined(__AVX512VBMI2__)
#if !defined(__clang__)
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"  // GCC 12 sees its own _mm512_undefined_* that way
#endif
#include <immintrin.h>

#include "entropy/rans_kernels.hpp"

namespace nncodec::rans {
namespace {

constexpr int kVector = 16;  // lanes in a register

// Lanes 0 .. count-1 of `vector`, of which the first may be lane 16 * v.
inline __mmask16 active(std::size_t count, int vector) noexcept {
    const std::size_t first = static_cast<std::size_t>(vector) * kVector;
    if (count <= first) return 0;
    return static_cast<__mmask16>(count - first >= kVector ? 0xFFFF : (1U << (count - first)) - 1);
}

// Lanes that fell below 2^16 take the next words in ascending order. Reads 32 bytes.
inline __m512i refill(__m512i state, __mmask16 lanes, const std::uint8_t*& words) noexcept {
    const __mmask16 low = _mm512_mask_cmplt_epu32_mask(lanes, state, _mm512_set1_epi32(1 << 16));
    const __m512i next = _mm512_cvtepu16_epi32(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(words)));
    words += 2 * static_cast<unsigned>(__builtin_popcount(low));
    return _mm512_or_si512(_mm512_mask_slli_epi32(state, low, state, 16),
                           _mm512_maskz_expand_epi32(low, next));
}

// A table of 2^kBucketBits buckets in registers.
template <int kBucketBits>
struct RegisterTable {
    static constexpr int kRegisters = kBucketBits == 5 ? 1 : 2;
    static constexpr int kWidthBits = 12 - kBucketBits;
    __m512i bucket[2], shift[2], frequency[2], symbol[2];

    void load(const SmallTable& table) noexcept {
        for (int i = 0; i < kRegisters; ++i) {
            bucket[i] = _mm512_load_si512(table.bucket + 32 * i);
            shift[i] = _mm512_load_si512(table.shift + 32 * i);
            frequency[i] = _mm512_load_si512(table.frequency + 32 * i);
            symbol[i] = _mm512_load_si512(table.symbol + 32 * i);
        }
    }

    // Look-ups ignore the index bits above kBucketBits.
    static __m512i pick(const __m512i (&table)[2], __m512i index) noexcept {
        if constexpr (kRegisters == 1) return _mm512_permutexvar_epi16(index, table[0]);
        return _mm512_permutex2var_epi16(table[0], index, table[1]);
    }

    struct Found {
        __m512i frequency, place, symbol;
    };
    // Of 32 states' low 16 bits.
    Found find(__m512i low16) const noexcept {
        const __m512i index = _mm512_srli_epi16(low16, kWidthBits);
        const __m512i low = _mm512_and_si512(low16, _mm512_set1_epi16((1 << kWidthBits) - 1));
        const __m512i entry = pick(bucket, index);
        // (low << 8 | 255) >= (cut << 8 | alias) exactly when low >= cut.
        const __m512i key = _mm512_or_si512(_mm512_slli_epi16(low, 8), _mm512_set1_epi16(255));
        const __mmask32 other = _mm512_cmpge_epu16_mask(key, entry);
        const __m512i rank = _mm512_mask_mov_epi16(index, other, entry);
        return {pick(frequency, rank), _mm512_mask_add_epi16(low, other, low, pick(shift, index)),
                pick(symbol, rank)};
    }
};

// One table per row. Two vectors of states share one vector of 16-bit elements: lane i of the first vector
// lies in element 2i, lane i of the second in element 2i + 1, so that going from one to the other takes no
// permutation.
template <int kVectors, int kBucketBits>
void decode_rows(const DecodeTask& task, DecodeProgress& progress) noexcept {
    constexpr std::size_t kLanes = kVectors * kVector;
    constexpr int kPairs = (kVectors + 1) / 2;
    constexpr std::size_t kMargin = 2 * kLanes + 64;  // the words of a step, and what refill reads too far
    alignas(64) std::uint8_t order[64];
    for (int lane = 0; lane < 64; ++lane) {
        const int vector = lane / kVector;
        const int element = 2 * (lane % kVector) + vector % 2;
        order[lane] = static_cast<std::uint8_t>(64 * (vector / 2) + 2 * element);
    }
    const __m512i order_of_bytes = _mm512_load_si512(order);
    const __m512i low_half = _mm512_set1_epi32(0xFFFF);

    __m512i state[4];
    for (int v = 0; v < kVectors; ++v) state[v] = _mm512_load_si512(progress.states + v * kVector);
    const std::uint8_t* words = progress.words;
    const std::uint8_t* const end = progress.end;
    std::uint8_t* out = progress.out;
    RegisterTable<kBucketBits> table;

    const auto step = [&](auto... count) {
        constexpr bool kPartial = sizeof...(count) != 0;
        __m512i symbols[2];
        __m512i next[4];
        for (int pair = 0; pair < kPairs; ++pair) {
            const __m512i first = state[2 * pair];
            __m512i low16 = first;
            if constexpr (kVectors > 1) {
                low16 = _mm512_mask_mov_epi16(first, 0xAAAAAAAA, _mm512_slli_epi32(state[2 * pair + 1], 16));
            }
            const auto found = table.find(low16);
            symbols[pair] = found.symbol;
            next[2 * pair] = _mm512_add_epi32(
                _mm512_mullo_epi32(_mm512_and_si512(found.frequency, low_half), _mm512_srli_epi32(first, 12)),
                _mm512_and_si512(found.place, low_half));
            if constexpr (kVectors > 1) {
                next[2 * pair + 1] =
                    _mm512_add_epi32(_mm512_mullo_epi32(_mm512_srli_epi32(found.frequency, 16),
                                                        _mm512_srli_epi32(state[2 * pair + 1], 12)),
                                     _mm512_srli_epi32(found.place, 16));
            }
        }
        for (int v = 0; v < kVectors; ++v) {
            if constexpr (kPartial) {
                const __mmask16 mask = active((count + ...), v);
                state[v] = refill(_mm512_mask_mov_epi32(state[v], mask, next[v]), mask, words);
            } else {
                state[v] = refill(next[v], 0xFFFF, words);
            }
        }
        const __m512i bytes = kPairs == 1
                                  ? _mm512_permutexvar_epi8(order_of_bytes, symbols[0])
                                  : _mm512_permutex2var_epi8(symbols[0], order_of_bytes, symbols[kPairs - 1]);
        if constexpr (kPartial) {
            _mm512_mask_storeu_epi8(out, (std::uint64_t{1} << (count + ...)) - 1, bytes);
            out += (count + ...);
        } else {
            if constexpr (kVectors == 4) _mm512_storeu_si512(out, bytes);
            if constexpr (kVectors == 2) {
                _mm256_storeu_si256(reinterpret_cast<__m256i*>(out), _mm512_castsi512_si256(bytes));
            }
            if constexpr (kVectors == 1) {
                _mm_storeu_si128(reinterpret_cast<__m128i*>(out), _mm512_castsi512_si128(bytes));
            }
            out += kLanes;
        }
    };

    const std::size_t rows = (task.n + task.columns - 1) / task.columns;
    std::size_t row = progress.row;
    std::size_t column = progress.column;
    for (; row < rows; ++row, column = 0) {
        table.load(task.small[task.row_context == nullptr ? 0 : task.row_context[row]]);
        const std::size_t left = task.n - row * task.columns;
        const std::size_t count = left < task.columns ? left : task.columns;
        for (; count - column >= kLanes && static_cast<std::size_t>(end - words) >= kMargin; column += kLanes)
            step();
        if (static_cast<std::size_t>(end - words) < kMargin) break;
        if (column < count) step(count - column);
    }

    for (int v = 0; v < kVectors; ++v) _mm512_store_si512(progress.states + v * kVector, state[v]);
    progress.words = words;
    progress.out = out;
    progress.row = row;
    progress.column = row < rows ? column : 0;
}

// A table per symbol, or tables too large for registers: one gather per vector.
template <int kVectors>
void decode_gather(const DecodeTask& task, DecodeProgress& progress) noexcept {
    constexpr std::size_t kLanes = kVectors * kVector;
    constexpr std::size_t kMargin = 2 * kLanes + 64;
    const __m512i slot_mask = _mm512_set1_epi32(0xFFF);
    __m512i state[4];
    for (int v = 0; v < kVectors; ++v) state[v] = _mm512_load_si512(progress.states + v * kVector);
    const std::uint8_t* words = progress.words;
    const std::uint8_t* const end = progress.end;
    std::uint8_t* out = progress.out;
    const std::size_t rows = (task.n + task.columns - 1) / task.columns;
    std::size_t row = progress.row;
    std::size_t column = progress.column;
    for (; row < rows; ++row, column = 0) {
        const __m512i row_table =
            _mm512_set1_epi32(task.row_context == nullptr ? 0 : task.row_context[row] << 12);
        const std::size_t left = task.n - row * task.columns;
        const std::size_t count = left < task.columns ? left : task.columns;
        while (column < count && static_cast<std::size_t>(end - words) >= kMargin) {
            const std::size_t now = count - column < kLanes ? count - column : kLanes;
            __m512i entry[4];
            __mmask16 mask[4];
            for (int v = 0; v < kVectors; ++v) {
                mask[v] = active(now, v);
                __m512i index = _mm512_add_epi32(row_table, _mm512_and_si512(state[v], slot_mask));
                if (task.column_context != nullptr) {
                    const __m128i context =
                        _mm_maskz_loadu_epi8(mask[v], task.column_context + column + v * kVector);
                    index = _mm512_add_epi32(index, _mm512_slli_epi32(_mm512_cvtepu8_epi32(context), 12));
                }
                entry[v] = _mm512_i32gather_epi32(index, task.slots, 4);
            }
            for (int v = 0; v < kVectors; ++v) {
                const __m512i upper = _mm512_srli_epi32(state[v], 12);
                const __m512i place = _mm512_and_si512(_mm512_srli_epi32(entry[v], 8), slot_mask);
                const __m512i next =
                    _mm512_add_epi32(_mm512_mullo_epi32(_mm512_srli_epi32(entry[v], 20), upper),
                                     _mm512_add_epi32(upper, place));
                state[v] = refill(_mm512_mask_mov_epi32(state[v], mask[v], next), mask[v], words);
                const __m128i bytes = _mm512_cvtepi32_epi8(entry[v]);
                if (now == kLanes) {
                    _mm_storeu_si128(reinterpret_cast<__m128i*>(out + v * kVector), bytes);
                } else {
                    _mm_mask_storeu_epi8(out + v * kVector, mask[v], bytes);
                }
            }
            out += now;
            column += now;
        }
        if (column < count) break;
    }
    for (int v = 0; v < kVectors; ++v) _mm512_store_si512(progress.states + v * kVector, state[v]);
    progress.words = words;
    progress.out = out;
    progress.row = row;
    progress.column = row < rows ? column : 0;
}

template <int kVectors>
void decode_lanes(const DecodeTask& task, DecodeProgress& progress) noexcept {
    if (task.small == nullptr || task.column_context != nullptr)
        return decode_gather<kVectors>(task, progress);
    if (task.bucket_bits == 5) return decode_rows<kVectors, 5>(task, progress);
    decode_rows<kVectors, 6>(task, progress);
}

}  // namespace

void decode_avx512(const DecodeTask& task, DecodeProgress& progress) noexcept {
    if (task.lanes == 64) return decode_lanes<4>(task, progress);
    if (task.lanes == 32) return decode_lanes<2>(task, progress);
    if (task.lanes == 16) return decode_lanes<1>(task, progress);
}

}  // namespace nncodec::rans
#endif
