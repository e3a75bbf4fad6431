#if defined(__x86_64__)

// Digits as masks: comparisons of sixteen floats give sixteen bits. Packing adds or subtracts a weight under
// the masks of 64 elements (planar), or spreads five bits to a byte and looks their sum up (consecutive).

// GCC 12 takes the undefined pass-through operands of its own AVX-512 header for mistakes.
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic ignored "-Wuninitialized"
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#endif
#include <immintrin.h>

#include "quantize/ternary_impl.hpp"

namespace nncodec::ternary {
namespace {

template <typename Format>
struct Vectors;

template <>
struct Vectors<Float32> {
    static __m512 load(const float* from) noexcept { return _mm512_loadu_ps(from); }
    static void store(float* to, __mmask16 where, __m512 x) noexcept { _mm512_mask_storeu_ps(to, where, x); }
};

template <>
struct Vectors<Float16> {
    static __m512 load(const std::uint16_t* from) noexcept {
        return _mm512_maskz_cvtph_ps(0xFFFF, _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from)));
    }
    static void store(std::uint16_t* to, __mmask16 where, __m512 x) noexcept {
        _mm256_mask_storeu_epi16(
            to, where, _mm512_maskz_cvtps_ph(0xFFFF, x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
    }
};

template <>
struct Vectors<BFloat16> {
    static __m512 load(const std::uint16_t* from) noexcept {
        const __m256i bits = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from));
        return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(bits), 16));
    }
    static void store(std::uint16_t* to, __mmask16 where, __m512 x) noexcept {
        const __m512i bits = _mm512_castps_si512(x);
        const __m512i odd = _mm512_and_si512(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(1));
        const __m512i rounded = _mm512_add_epi32(bits, _mm512_add_epi32(odd, _mm512_set1_epi32(0x7FFF)));
        const __mmask16 nan = _mm512_cmp_ps_mask(x, x, _CMP_UNORD_Q);
        const __m512i kept = _mm512_mask_or_epi32(rounded, nan, bits, _mm512_set1_epi32(0x40 << 16));
        _mm256_mask_storeu_epi16(to, where, _mm512_cvtepi32_epi16(_mm512_srli_epi32(kept, 16)));
    }
};

template <typename Format>
std::uint32_t absmax_vectors(const void* from, const float* residual, std::size_t n) noexcept {
    const auto* const values = static_cast<const typename Format::Storage*>(from);
    const __m512i magnitude = _mm512_set1_epi32(0x7FFFFFFF);
    __m512i most[4] = {_mm512_setzero_si512(), _mm512_setzero_si512(), _mm512_setzero_si512(),
                       _mm512_setzero_si512()};
    std::size_t i = 0;
    for (; i + 64 <= n; i += 64) {
        for (std::size_t g = 0; g < 4; ++g) {
            __m512 x = Vectors<Format>::load(values + i + 16 * g);
            if (residual != nullptr) x = _mm512_add_ps(_mm512_loadu_ps(residual + i + 16 * g), x);
            most[g] = _mm512_max_epu32(most[g], _mm512_and_si512(_mm512_castps_si512(x), magnitude));
        }
    }
    const std::uint32_t vectors = _mm512_reduce_max_epu32(
        _mm512_max_epu32(_mm512_max_epu32(most[0], most[1]), _mm512_max_epu32(most[2], most[3])));
    const std::uint32_t rest =
        absmax_loop<Format>(values + i, residual == nullptr ? nullptr : residual + i, n - i);
    return vectors > rest ? vectors : rest;
}

struct Signs {
    __mmask16 above;
    __mmask16 below;
};

template <typename Format>
Signs quantise_16(const typename Format::Storage* values, float* residual, __m512 scale, __m512 half,
                  __m512 minus_half) noexcept {
    __m512 x = Vectors<Format>::load(values);
    if (residual != nullptr) x = _mm512_add_ps(_mm512_loadu_ps(residual), x);
    const Signs signs{_mm512_cmp_ps_mask(x, half, _CMP_GT_OQ), _mm512_cmp_ps_mask(x, minus_half, _CMP_LT_OQ)};
    if (residual != nullptr) {
        x = _mm512_mask_sub_ps(x, signs.above, x, scale);
        x = _mm512_mask_add_ps(x, signs.below, x, scale);
        _mm512_storeu_ps(residual, x);
    }
    return signs;
}

template <typename Format>
void quantise_planar_vectors(const void* from, float* residual, std::size_t n, float scale, float half,
                             std::uint8_t* packed) noexcept {
    const auto* const values = static_cast<const typename Format::Storage*>(from);
    const std::size_t bytes = packed_size(n);
    const std::size_t whole = plane_size(n, bytes, kDigitsPerByte - 1);  // the shortest plane
    const __m512 m = _mm512_set1_ps(scale);
    const __m512 h = _mm512_set1_ps(half);
    const __m512 minus_h = _mm512_set1_ps(-half);
    std::size_t i = 0;
    for (; i + 64 <= whole; i += 64) {
        __m512i sum = _mm512_set1_epi8(static_cast<char>(kZeroByte));
        char weight = 81;
        for (std::size_t k = 0; k < kDigitsPerByte; ++k, weight = static_cast<char>(weight / 3)) {
            std::uint64_t above = 0;
            std::uint64_t below = 0;
            for (std::size_t g = 0; g < 4; ++g) {
                const std::size_t at = k * bytes + i + 16 * g;
                const Signs signs = quantise_16<Format>(
                    values + at, residual == nullptr ? nullptr : residual + at, m, h, minus_h);
                above |= std::uint64_t{signs.above} << (16 * g);
                below |= std::uint64_t{signs.below} << (16 * g);
            }
            sum = _mm512_mask_add_epi8(sum, above, sum, _mm512_set1_epi8(weight));
            sum = _mm512_mask_sub_epi8(sum, below, sum, _mm512_set1_epi8(weight));
        }
        _mm512_storeu_si512(packed + i, sum);
    }
    quantise_planar_from<Format>(i, from, residual, n, scale, half, packed);
}

// What five bits weigh, the lowest most: 81, 27, 9, 3, 1.
struct alignas(64) Weights {
    std::uint8_t of[64];
};
constexpr Weights make_weights() noexcept {
    Weights weights{};
    for (unsigned bits = 0; bits < 32; ++bits) {
        weights.of[bits] = static_cast<std::uint8_t>(81 * (bits & 1) + 27 * (bits >> 1 & 1) +
                                                     9 * (bits >> 2 & 1) + 3 * (bits >> 3 & 1) + (bits >> 4));
    }
    return weights;
}
constexpr Weights kWeights = make_weights();
constexpr std::uint64_t kFives = 0x1F1F1F1F1F1F1F1FU;

// 320 bits to 64 bytes of five bits each.
__m512i spread_fives(const std::uint8_t* bits) noexcept {
    alignas(64) std::uint64_t words[8];
    for (std::size_t j = 0; j < 8; ++j) words[j] = _pdep_u64(load_le<std::uint64_t>(bits + 5 * j), kFives);
    return _mm512_load_si512(words);
}

// And back; writes three bytes more.
void gather_fives(__m512i fives, std::uint8_t* bits) noexcept {
    alignas(64) std::uint64_t words[8];
    _mm512_store_si512(words, fives);
    for (std::size_t j = 0; j < 8; ++j) store_le(bits + 5 * j, _pext_u64(words[j], kFives));
}

template <typename Format>
void quantise_consecutive_vectors(const void* from, float* residual, std::size_t n, float scale, float half,
                                  std::uint8_t* packed) noexcept {
    const auto* const values = static_cast<const typename Format::Storage*>(from);
    const __m512 m = _mm512_set1_ps(scale);
    const __m512 h = _mm512_set1_ps(half);
    const __m512 minus_h = _mm512_set1_ps(-half);
    const __m512i weights = _mm512_load_si512(kWeights.of);
    std::uint8_t above[48];  // 320 bits, and room for reading the last five bytes as a word
    std::uint8_t below[48];
    std::size_t i = 0;
    for (; i + 320 <= n; i += 320) {
        for (std::size_t g = 0; g < 20; ++g) {
            const std::size_t at = i + 16 * g;
            const Signs signs = quantise_16<Format>(
                values + at, residual == nullptr ? nullptr : residual + at, m, h, minus_h);
            store_le(above + 2 * g, static_cast<std::uint16_t>(signs.above));
            store_le(below + 2 * g, static_cast<std::uint16_t>(signs.below));
        }
        const __m512i plus = _mm512_permutexvar_epi8(spread_fives(above), weights);
        const __m512i minus = _mm512_permutexvar_epi8(spread_fives(below), weights);
        const __m512i zero = _mm512_set1_epi8(static_cast<char>(kZeroByte));
        _mm512_storeu_si512(packed + i / kDigitsPerByte, _mm512_sub_epi8(_mm512_add_epi8(zero, plus), minus));
    }
    quantise_consecutive<Format>(values + i, residual == nullptr ? nullptr : residual + i, n - i, scale, half,
                                 packed + i / kDigitsPerByte);
}

// For each byte, which of its five digits are 2 (plus) and which are 0 (minus); bit 0 is the first digit.
struct alignas(64) SignTables {
    std::uint8_t plus[256];
    std::uint8_t minus[256];
};
constexpr SignTables make_sign_tables() noexcept {
    SignTables tables{};
    for (unsigned packed = 0; packed <= kLargestByte; ++packed) {
        unsigned rest = packed;
        for (unsigned k = kDigitsPerByte; k-- > 0; rest /= 3) {
            if (rest % 3 == 2) tables.plus[packed] = static_cast<std::uint8_t>(tables.plus[packed] | 1U << k);
            if (rest % 3 == 0)
                tables.minus[packed] = static_cast<std::uint8_t>(tables.minus[packed] | 1U << k);
        }
    }
    return tables;
}
constexpr SignTables kSigns = make_sign_tables();

// A table of 256 bytes in four registers.
class Lookup {
  public:
    explicit Lookup(const std::uint8_t* table) noexcept
        : a_(_mm512_load_si512(table)),
          b_(_mm512_load_si512(table + 64)),
          c_(_mm512_load_si512(table + 128)),
          d_(_mm512_load_si512(table + 192)) {}
    __m512i of(__m512i index) const noexcept {
        const __m512i low = _mm512_permutex2var_epi8(a_, index, b_);
        const __m512i high = _mm512_permutex2var_epi8(c_, index, d_);
        return _mm512_mask_blend_epi8(_mm512_movepi8_mask(index), low, high);
    }

  private:
    __m512i a_, b_, c_, d_;
};

template <typename Format>
void apply_16(Signs signs, __m512 scale, bool accumulate, typename Format::Storage* out) noexcept {
    const __m512 zero = _mm512_setzero_ps();
    if (!accumulate) {
        const __m512 x =
            _mm512_mask_sub_ps(_mm512_maskz_mov_ps(signs.above, scale), signs.below, zero, scale);
        Vectors<Format>::store(out, 0xFFFF, x);
        return;
    }
    __m512 x = Vectors<Format>::load(out);
    x = _mm512_mask_add_ps(x, signs.above, x, scale);
    x = _mm512_mask_sub_ps(x, signs.below, x, scale);
    Vectors<Format>::store(out, static_cast<__mmask16>(signs.above | signs.below), x);
}

template <typename Format>
void expand_planar_vectors(const std::uint8_t* packed, std::size_t n, float scale, bool accumulate,
                           void* to) noexcept {
    auto* const out = static_cast<typename Format::Storage*>(to);
    const std::size_t bytes = packed_size(n);
    const std::size_t whole = plane_size(n, bytes, kDigitsPerByte - 1);
    const Lookup plus(kSigns.plus);
    const Lookup minus(kSigns.minus);
    const __m512 m = _mm512_set1_ps(scale);
    std::size_t i = 0;
    for (; i + 64 <= whole; i += 64) {
        const __m512i index = _mm512_loadu_si512(packed + i);
        const __m512i above = plus.of(index);
        const __m512i below = minus.of(index);
        __m512i bit = _mm512_set1_epi8(1);
        for (std::size_t k = 0; k < kDigitsPerByte; ++k, bit = _mm512_add_epi8(bit, bit)) {
            const std::uint64_t a = _mm512_test_epi8_mask(above, bit);
            const std::uint64_t b = _mm512_test_epi8_mask(below, bit);
            for (std::size_t g = 0; g < 4; ++g) {
                const Signs signs{static_cast<__mmask16>(a >> (16 * g)),
                                  static_cast<__mmask16>(b >> (16 * g))};
                apply_16<Format>(signs, m, accumulate, out + k * bytes + i + 16 * g);
            }
        }
    }
    expand_planar_from<Format>(i, packed, n, scale, accumulate, to);
}

template <typename Format>
void expand_consecutive_vectors(const std::uint8_t* packed, std::size_t n, float scale, bool accumulate,
                                void* to) noexcept {
    auto* const out = static_cast<typename Format::Storage*>(to);
    const Lookup plus(kSigns.plus);
    const Lookup minus(kSigns.minus);
    const __m512 m = _mm512_set1_ps(scale);
    std::uint8_t above[48];
    std::uint8_t below[48];
    std::size_t i = 0;
    for (; i + 320 <= n; i += 320) {
        const __m512i index = _mm512_loadu_si512(packed + i / kDigitsPerByte);
        gather_fives(plus.of(index), above);
        gather_fives(minus.of(index), below);
        for (std::size_t g = 0; g < 20; ++g) {
            const Signs signs{load_le<std::uint16_t>(above + 2 * g), load_le<std::uint16_t>(below + 2 * g)};
            apply_16<Format>(signs, m, accumulate, out + i + 16 * g);
        }
    }
    expand_consecutive<Format>(packed + i / kDigitsPerByte, n - i, scale, accumulate, out + i);
}

}  // namespace

// constinit: nothing of this file may run on a machine without its instructions, not even at start-up.
constinit const Kernels kAvx512Kernels = {
    {absmax_vectors<Float32>, absmax_vectors<Float16>, absmax_vectors<BFloat16>},
    {{{quantise_planar_vectors<Float32>, quantise_consecutive_vectors<Float32>},
      {quantise_planar_vectors<Float16>, quantise_consecutive_vectors<Float16>},
      {quantise_planar_vectors<BFloat16>, quantise_consecutive_vectors<BFloat16>}}},
    {{{expand_planar_vectors<Float32>, expand_consecutive_vectors<Float32>},
      {expand_planar_vectors<Float16>, expand_consecutive_vectors<Float16>},
      {expand_planar_vectors<BFloat16>, expand_consecutive_vectors<BFloat16>}}}};

}  // namespace nncodec::ternary

#endif
