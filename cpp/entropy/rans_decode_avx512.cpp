// rANS decoding with AVX-512 (F, BW, VL, VBMI, VBMI2): 16, 32 or 64 lanes, prob_bits 12.
#if defined(__AVX512VBMI2__)
#if !defined(__clang__)
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"  // GCC 12 sees its own _mm512_undefined_* that way
#pragma GCC diagnostic ignored "-Wuninitialized"
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

// The same for 32 lanes of 16 bits.
inline __mmask32 first_lanes(std::size_t count, int group) noexcept {
    const std::size_t first = static_cast<std::size_t>(group) * 32;
    if (count <= first) return 0;
    return static_cast<__mmask32>(count - first >= 32 ? ~std::uint64_t{0}
                                                      : (std::uint64_t{1} << (count - first)) - 1);
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

// 32 lanes: the low and the high 16 bits of their states, so that all work is on 16-bit elements, twice as
// many as states in a register, and words enter without being widened.
struct Lanes {
    __m512i low, high;

    static Lanes load(const std::uint32_t* states, __mmask16 second) noexcept {
        const __m512i a = _mm512_load_si512(states);
        const __m512i b = _mm512_maskz_load_epi32(second, states + kVector);
        return {join(_mm512_cvtepi32_epi16(a), _mm512_cvtepi32_epi16(b)),
                join(_mm512_cvtepi32_epi16(_mm512_srli_epi32(a, 16)),
                     _mm512_cvtepi32_epi16(_mm512_srli_epi32(b, 16)))};
    }
    void store(std::uint32_t* states, __mmask16 second) const noexcept {
        _mm512_store_si512(states, widen(_mm512_castsi512_si256(low), _mm512_castsi512_si256(high)));
        _mm512_mask_store_epi32(states + kVector, second,
                                widen(_mm512_extracti64x4_epi64(low, 1), _mm512_extracti64x4_epi64(high, 1)));
    }

    // Decodes a symbol of this frequency and place in each of `lanes`: the state becomes frequency *
    // (state >> 12) + place. Returns the lanes that fell below 2^16.
    __mmask32 advance(__mmask32 lanes, __m512i frequency, __m512i place) noexcept {
        const __m512i upper = _mm512_shldi_epi16(high, low, 4);  // bits 12 .. 27
        const __m512i sum = _mm512_add_epi16(_mm512_mullo_epi16(frequency, upper), place);
        const __m512i top = _mm512_add_epi16(_mm512_mulhi_epu16(frequency, upper),
                                             _mm512_mullo_epi16(frequency, _mm512_srli_epi16(high, 12)));
        const __mmask32 carry = _mm512_cmplt_epu16_mask(sum, place);
        const __mmask32 zero = _mm512_mask_testn_epi16_mask(lanes, top, top);
        low = _mm512_mask_mov_epi16(low, lanes, sum);
        high = _mm512_mask_mov_epi16(high, lanes, top);
        high = _mm512_mask_sub_epi16(high, carry & lanes, high, _mm512_set1_epi16(-1));
        return _kandn_mask32(carry, zero);
    }

    // Lanes below 2^16 take the next words in ascending order. Reads 64 bytes.
    void refill(__mmask32 below, const std::uint8_t*& words) noexcept {
        high = _mm512_mask_mov_epi16(high, below, low);
        low = _mm512_mask_expand_epi16(low, below, _mm512_loadu_si512(words));
        words += 2 * static_cast<unsigned>(__builtin_popcount(below));
    }

  private:
    static __m512i join(__m256i a, __m256i b) noexcept {
        return _mm512_inserti64x4(_mm512_castsi256_si512(a), b, 1);
    }
    static __m512i widen(__m256i low16, __m256i high16) noexcept {
        return _mm512_or_si512(_mm512_cvtepu16_epi32(low16),
                               _mm512_slli_epi32(_mm512_cvtepu16_epi32(high16), 16));
    }
};

// One table per row.
template <int kLanes, int kBucketBits>
void decode_rows(const DecodeTask& task, DecodeProgress& progress) noexcept {
    constexpr int kGroups = kLanes == 64 ? 2 : 1;
    constexpr __mmask16 kSecond = kLanes == 16 ? 0 : 0xFFFF;  // of a group's two vectors of states
    constexpr __mmask32 kAll = kLanes == 16 ? 0xFFFF : 0xFFFFFFFF;
    constexpr std::size_t kMargin = 2 * kLanes + 64;  // the words of a step, and what refill reads too far
    const __m512i quarters = _mm512_setr_epi64(0, 2, 4, 6, 1, 3, 5, 7);

    Lanes state[kGroups];
    for (int g = 0; g < kGroups; ++g) state[g] = Lanes::load(progress.states + 32 * g, kSecond);
    const std::uint8_t* words = progress.words;
    const std::uint8_t* const end = progress.end;
    std::uint8_t* out = progress.out;
    RegisterTable<kBucketBits> table;

    // No count: of all lanes.
    const auto step = [&](auto... count) {
        constexpr bool kPartial = sizeof...(count) != 0;
        __m512i symbols[kGroups];
        __mmask32 below[kGroups];
        for (int g = 0; g < kGroups; ++g) {
            const auto found = table.find(state[g].low);
            symbols[g] = found.symbol;
            const __mmask32 lanes = kPartial ? first_lanes((std::size_t{0} + ... + count), g) : kAll;
            below[g] = state[g].advance(lanes, found.frequency, found.place);
        }
        for (int g = 0; g < kGroups; ++g) state[g].refill(below[g], words);
        const __m512i bytes =
            _mm512_permutexvar_epi64(quarters, _mm512_packus_epi16(symbols[0], symbols[kGroups - 1]));
        if constexpr (kPartial) {
            _mm512_mask_storeu_epi8(out, (std::uint64_t{1} << (count + ...)) - 1, bytes);
            out += (count + ...);
        } else {
            if constexpr (kLanes == 64) _mm512_storeu_si512(out, bytes);
            if constexpr (kLanes == 32) {
                _mm256_storeu_si256(reinterpret_cast<__m256i*>(out), _mm512_castsi512_si256(bytes));
            }
            if constexpr (kLanes == 16) {
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

    for (int g = 0; g < kGroups; ++g) state[g].store(progress.states + 32 * g, kSecond);
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
    if (task.bucket_bits == 5) return decode_rows<kVectors * kVector, 5>(task, progress);
    decode_rows<kVectors * kVector, 6>(task, progress);
}

}  // namespace

void decode_avx512(const DecodeTask& task, DecodeProgress& progress) noexcept {
    if (task.lanes == 64) return decode_lanes<4>(task, progress);
    if (task.lanes == 32) return decode_lanes<2>(task, progress);
    if (task.lanes == 16) return decode_lanes<1>(task, progress);
}

}  // namespace nncodec::rans
#endif
