// rANS with a trellis per lane on AVX-512: 16 lanes a vector, one gather for the slot and one for the value.
#if defined(__x86_64__)

// GCC 12 takes the undefined pass-through operands of its own AVX-512 header for mistakes.
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wuninitialized"
#if !defined(__clang__)
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#endif
#include <immintrin.h>
#pragma GCC diagnostic pop

#include "entropy/rans_trellis_kernels.hpp"

namespace nncodec::rans {
namespace {

constexpr int kVector = 16;

struct Step {
    __m512i rans, state, table, symbol;
};

// What does not change from step to step.
struct Constants {
    explicit Constants(const TrellisBlock& block)
        : buckets(block.buckets + block.pairs->first_bucket),
          bucket_bits(_mm_cvtsi32_si128(static_cast<int>(block.pairs->bucket_bits))),
          width_bits(_mm_cvtsi32_si128(static_cast<int>(12 - block.pairs->bucket_bits))),
          width_mask(_mm512_set1_epi32((1 << (12 - block.pairs->bucket_bits)) - 1)),
          h0(_mm512_set1_epi32(static_cast<int>(block.h0))),
          h1(_mm512_set1_epi32(static_cast<int>(block.h1))) {}
    const Bucket* buckets;
    __m128i bucket_bits, width_bits;
    __m512i width_mask, h0, h1;
};

// All of a step but the refill and the value.
inline Step advance(const Constants& c, __m512i rans, __m512i state, __m512i context, __mmask16 mask) {
    const __m512i one = _mm512_set1_epi32(1);
    const __m512i low12 = _mm512_set1_epi32(0xFFF);
    const __mmask16 odd_union = _mm512_test_epi32_mask(state, one);
    const __m512i table = _mm512_or_si512(_mm512_slli_epi32(context, 1), _mm512_and_si512(state, one));
    const __m512i index = _mm512_or_si512(_mm512_sll_epi32(table, c.bucket_bits),
                                          _mm512_srl_epi32(_mm512_and_si512(rans, low12), c.width_bits));
    const __m512i first = _mm512_mask_i32gather_epi64(_mm512_setzero_si512(), static_cast<__mmask8>(mask),
                                                      _mm512_castsi512_si256(index), c.buckets, 8);
    const __m512i second =
        _mm512_mask_i32gather_epi64(_mm512_setzero_si512(), static_cast<__mmask8>(mask >> 8),
                                    _mm512_extracti64x4_epi64(index, 1), c.buckets, 8);
    const __m512i evens = _mm512_set_epi32(30, 28, 26, 24, 22, 20, 18, 16, 14, 12, 10, 8, 6, 4, 2, 0);
    const __m512i odds = _mm512_set_epi32(31, 29, 27, 25, 23, 21, 19, 17, 15, 13, 11, 9, 7, 5, 3, 1);
    const __m512i own_half = _mm512_permutex2var_epi32(first, evens, second);
    const __m512i other_half = _mm512_permutex2var_epi32(first, odds, second);
    const __m512i low = _mm512_and_si512(rans, c.width_mask);
    const __mmask16 other = _mm512_cmpge_epu32_mask(low, _mm512_srli_epi32(own_half, 20));
    const __m512i half = _mm512_mask_mov_epi32(own_half, other, other_half);
    const __m512i place =
        _mm512_and_si512(_mm512_mask_add_epi32(low, other, low, _mm512_srli_epi32(half, 20)), low12);
    const __m512i upper = _mm512_srli_epi32(rans, 12);
    const __m512i less_one = _mm512_and_si512(_mm512_srli_epi32(half, 8), low12);  // frequency - 1
    const __m512i next =
        _mm512_add_epi32(_mm512_mullo_epi32(less_one, upper), _mm512_add_epi32(upper, place));
    const __mmask16 odd_level = _mm512_test_epi32_mask(half, one);  // the symbol lies in the lowest bits
    __m512i moved = _mm512_srli_epi32(state, 1);
    moved = _mm512_mask_xor_epi32(moved, odd_union, moved, c.h0);
    moved = _mm512_mask_xor_epi32(moved, odd_level, moved, c.h1);
    return {_mm512_mask_mov_epi32(rans, mask, next), _mm512_mask_mov_epi32(state, mask, moved), table,
            _mm512_and_si512(half, _mm512_set1_epi32(0xFF))};
}

// Lanes that fell below 2^16 take the next words in ascending order. Reads 32 bytes.
inline __m512i refill(__m512i rans, __mmask16 mask, const std::uint8_t*& words) {
    const __mmask16 low = _mm512_mask_cmplt_epu32_mask(mask, rans, _mm512_set1_epi32(1 << 16));
    const __m512i next = _mm512_cvtepu16_epi32(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(words)));
    words += 2 * static_cast<unsigned>(__builtin_popcount(low));
    return _mm512_or_si512(_mm512_mask_slli_epi32(rans, low, rans, 16), _mm512_maskz_expand_epi32(low, next));
}

template <int kVectors>
std::size_t decode(TrellisBlock& block, std::size_t steps, unsigned lanes) {
    constexpr std::ptrdiff_t kMargin =
        2 * kVectors * kVector + 64;  // the words of a step, and what refill reads too far
    __m512i rans[kVectors];
    __m512i state[kVectors];
    __mmask16 mask[kVectors];
    for (int v = 0; v < kVectors; ++v) {
        rans[v] = _mm512_load_si512(block.rans + v * kVector);
        state[v] = _mm512_cvtepu16_epi32(
            _mm256_load_si256(reinterpret_cast<const __m256i*>(block.state + v * kVector)));
        const int left = static_cast<int>(lanes) - v * kVector;
        mask[v] = static_cast<__mmask16>(left >= kVector ? 0xFFFF : (1U << left) - 1);
    }
    const std::uint8_t* words = block.words;
    const Constants constants(block);
    std::size_t i = 0;
    for (; i < steps && block.end - words >= kMargin; ++i) {
        Step step[kVectors];
        for (int v = 0; v < kVectors; ++v) {
            const auto* const context = block.contexts + i * block.context_stride + v * kVector;
            step[v] = advance(
                constants, rans[v], state[v],
                _mm512_cvtepu8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(context))), mask[v]);
            state[v] = step[v].state;
        }
        for (int v = 0; v < kVectors; ++v) rans[v] = refill(step[v].rans, mask[v], words);
        for (int v = 0; v < kVectors; ++v) {
            const __m512i index = _mm512_or_si512(_mm512_slli_epi32(step[v].table, 8), step[v].symbol);
            _mm256_mask_storeu_epi16(block.out + i * block.out_stride + v * kVector, mask[v],
                                     _mm512_cvtepi32_epi16(_mm512_mask_i32gather_epi32(
                                         _mm512_setzero_si512(), mask[v], index, block.values, 4)));
        }
    }
    for (int v = 0; v < kVectors; ++v) {
        _mm512_store_si512(block.rans + v * kVector, rans[v]);
        _mm256_store_si256(reinterpret_cast<__m256i*>(block.state + v * kVector),
                           _mm512_cvtepi32_epi16(state[v]));
    }
    block.words = words;
    return i;
}

// Both tables of a context in registers.
template <int kBucketBits>
struct RegisterPair {
    static constexpr int kRegisters = kBucketBits == 5 ? 2 : 4;
    static constexpr int kWidthBits = 12 - kBucketBits;
    __m512i bucket[kRegisters], shift[kRegisters], frequency[kRegisters], value[kRegisters];

    void load(const PairTable& table) noexcept {
        for (int i = 0; i < kRegisters; ++i) {
            bucket[i] = _mm512_load_si512(table.bucket + 32 * i);
            shift[i] = _mm512_load_si512(table.shift + 32 * i);
            frequency[i] = _mm512_load_si512(table.frequency + 32 * i);
            value[i] = _mm512_load_si512(table.value + 32 * i);
        }
    }

    // Index: with 32 buckets, bit 5 is the union; with 64, bits above 5 are ignored.
    static __m512i pick(const __m512i (&table)[kRegisters], __m512i index, __mmask32 odd_union) noexcept {
        const __m512i first = _mm512_permutex2var_epi16(table[0], index, table[1]);
        if constexpr (kRegisters == 2) return first;
        return _mm512_mask_mov_epi16(first, odd_union,
                                     _mm512_permutex2var_epi16(table[2], index, table[kRegisters - 1]));
    }

    struct Found {
        __m512i frequency, place, value;  // bit 15 of the frequency: odd
    };
    Found find(__m512i low16, __mmask32 odd_union) const noexcept {
        __m512i index = _mm512_srli_epi16(low16, kWidthBits);
        if constexpr (kRegisters == 2) {
            index = _mm512_and_si512(index, _mm512_set1_epi16(31));
            index = _mm512_mask_add_epi16(index, odd_union, index, _mm512_set1_epi16(32));
        }
        const __m512i low = _mm512_and_si512(low16, _mm512_set1_epi16((1 << kWidthBits) - 1));
        const __m512i entry = pick(bucket, index, odd_union);
        // (low << 8 | 255) >= (cut << 8 | alias) exactly when low >= cut.
        const __m512i key = _mm512_or_si512(_mm512_slli_epi16(low, 8), _mm512_set1_epi16(255));
        const __mmask32 other = _mm512_cmpge_epu16_mask(key, entry);
        const __m512i rank = _mm512_mask_mov_epi16(index, other, entry);
        return {pick(frequency, rank, odd_union),
                _mm512_mask_add_epi16(low, other, low, pick(shift, index, odd_union)),
                pick(value, rank, odd_union)};
    }
};

// 32 lanes: the low and the high 16 bits of their rANS states, and their places in the trellis.
struct Lanes {
    __m512i low, high, state;

    static Lanes load(const TrellisBlock& block, int group, __mmask16 second) noexcept {
        const __m512i a = _mm512_load_si512(block.rans + 32 * group);
        const __m512i b = _mm512_maskz_load_epi32(second, block.rans + 32 * group + kVector);
        return {join(_mm512_cvtepi32_epi16(a), _mm512_cvtepi32_epi16(b)),
                join(_mm512_cvtepi32_epi16(_mm512_srli_epi32(a, 16)),
                     _mm512_cvtepi32_epi16(_mm512_srli_epi32(b, 16))),
                _mm512_load_si512(block.state + 32 * group)};
    }
    void store(TrellisBlock& block, int group, __mmask16 second) const noexcept {
        _mm512_store_si512(block.rans + 32 * group,
                           widen(_mm512_castsi512_si256(low), _mm512_castsi512_si256(high)));
        _mm512_mask_store_epi32(block.rans + 32 * group + kVector, second,
                                widen(_mm512_extracti64x4_epi64(low, 1), _mm512_extracti64x4_epi64(high, 1)));
        _mm512_store_si512(block.state + 32 * group, state);
    }

    // The state becomes frequency * (state >> 12) + place. Returns the lanes that fell below 2^16.
    __mmask32 advance(__m512i frequency, __m512i place) noexcept {
        const __m512i upper = _mm512_shldi_epi16(high, low, 4);  // bits 12 .. 27
        const __m512i sum = _mm512_add_epi16(_mm512_mullo_epi16(frequency, upper), place);
        const __m512i top = _mm512_add_epi16(_mm512_mulhi_epu16(frequency, upper),
                                             _mm512_mullo_epi16(frequency, _mm512_srli_epi16(high, 12)));
        const __mmask32 carry = _mm512_cmplt_epu16_mask(sum, place);
        const __mmask32 zero = _mm512_testn_epi16_mask(top, top);
        low = sum;
        high = _mm512_mask_sub_epi16(top, carry, top, _mm512_set1_epi16(-1));
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

template <int kLanes>
bool has_context(const std::uint8_t* row, std::uint8_t context) noexcept {
    const __m512i wanted = _mm512_set1_epi8(static_cast<char>(context));
    constexpr __mmask64 kAll = kLanes == 64 ? ~__mmask64{0} : (__mmask64{1} << (kLanes % 64)) - 1;
    return _mm512_mask_cmpneq_epi8_mask(kAll, _mm512_maskz_loadu_epi8(kAll, row), wanted) == 0;
}

template <int kLanes, int kBucketBits>
std::size_t decode_alike(TrellisBlock& block, std::size_t steps) {
    constexpr int kGroups = kLanes == 64 ? 2 : 1;
    constexpr __mmask16 kSecond = kLanes == 16 ? 0 : 0xFFFF;  // of a group's two vectors of states
    constexpr __mmask32 kAll = kLanes == 16 ? 0xFFFF : 0xFFFFFFFF;
    constexpr std::ptrdiff_t kMargin = 2 * kLanes + 64;  // the words of a step, and what refill reads too far
    const std::uint8_t context = *block.contexts;
    RegisterPair<kBucketBits> table;
    table.load(block.small[context]);
    const __m512i one = _mm512_set1_epi16(1);
    const __m512i h0 = _mm512_set1_epi16(static_cast<short>(block.h0));
    const __m512i h1 = _mm512_set1_epi16(static_cast<short>(block.h1));
    Lanes lanes[kGroups];
    for (int g = 0; g < kGroups; ++g) lanes[g] = Lanes::load(block, g, kSecond);
    const std::uint8_t* words = block.words;
    std::size_t i = 0;
    for (; i < steps && block.end - words >= kMargin; ++i) {
        if (!has_context<kLanes>(block.contexts + i * block.context_stride, context)) break;
        __mmask32 below[kGroups];
        for (int g = 0; g < kGroups; ++g) {
            Lanes& l = lanes[g];
            const __mmask32 odd_union = _mm512_test_epi16_mask(l.state, one);
            const auto found = table.find(l.low, odd_union);
            const __mmask32 odd_level = _mm512_movepi16_mask(found.frequency);
            below[g] =
                l.advance(_mm512_and_si512(found.frequency, _mm512_set1_epi16(0x7FFF)), found.place) & kAll;
            l.state = _mm512_srli_epi16(l.state, 1);
            l.state = _mm512_xor_si512(l.state, _mm512_maskz_mov_epi16(odd_union, h0));
            l.state = _mm512_xor_si512(l.state, _mm512_maskz_mov_epi16(odd_level, h1));
            std::int16_t* const to = block.out + i * block.out_stride + 32 * g;
            if constexpr (kLanes == 16) {
                _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), _mm512_castsi512_si256(found.value));
            } else {
                _mm512_storeu_si512(to, found.value);
            }
        }
        for (int g = 0; g < kGroups; ++g) lanes[g].refill(below[g], words);
    }
    for (int g = 0; g < kGroups; ++g) lanes[g].store(block, g, kSecond);
    block.words = words;
    return i;
}

}  // namespace

std::size_t decode_block_avx512(TrellisBlock& block, std::size_t steps, unsigned lanes) noexcept {
    switch ((lanes + kVector - 1) / kVector) {
        case 1:
            return decode<1>(block, steps, lanes);
        case 2:
            return decode<2>(block, steps, lanes);
        case 3:
            return decode<3>(block, steps, lanes);
        case 4:
            return decode<4>(block, steps, lanes);
        default:
            return 0;
    }
}

std::size_t decode_alike_avx512(TrellisBlock& block, std::size_t steps, unsigned lanes) noexcept {
    const unsigned bits = block.pairs[*block.contexts].bucket_bits;
    if (bits > 6) return 0;
    switch (lanes) {
        case 16:
            return bits == 5 ? decode_alike<16, 5>(block, steps) : decode_alike<16, 6>(block, steps);
        case 32:
            return bits == 5 ? decode_alike<32, 5>(block, steps) : decode_alike<32, 6>(block, steps);
        case 64:
            return bits == 5 ? decode_alike<64, 5>(block, steps) : decode_alike<64, 6>(block, steps);
        default:
            return 0;
    }
}

}  // namespace nncodec::rans

#endif
