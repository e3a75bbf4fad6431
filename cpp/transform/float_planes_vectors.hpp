// The loops of float_planes_impl.hpp for numbers of 2 and 4 bytes, in vectors of AVX2 or AVX-512: compilers
// widen 16-bit arithmetic to 32 bits and get a third of this speed. Each handles whole vectors from the start
// on and returns how many numbers that were.
#pragma once

#if defined(__AVX2__)
#if !defined(__clang__)
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"  // GCC 12 sees its own _mm512_undefined_* that way
#pragma GCC diagnostic ignored "-Wuninitialized"
#endif
#include <immintrin.h>

#include "transform/float_planes.hpp"

namespace nncodec::planes {
namespace {

#if defined(__AVX512BW__)
using Register = __m512i;
inline Register load_register(const std::uint8_t* p) noexcept {
    return _mm512_loadu_si512(p);
}
inline void store_register(std::uint8_t* p, Register v) noexcept {
    _mm512_storeu_si512(p, v);
}
inline void stream_register(std::uint8_t* p, Register v) noexcept {
    _mm512_stream_si512(reinterpret_cast<__m512i*>(p), v);
}
inline Register both(Register a, Register b) noexcept {
    return _mm512_and_si512(a, b);
}
inline Register either(Register a, Register b) noexcept {
    return _mm512_or_si512(a, b);
}
inline Register either_masked(Register a, Register b, Register mask) noexcept {  // a | (b & mask)
    return _mm512_ternarylogic_epi64(a, b, mask, 0xF8);
}
#else
using Register = __m256i;
inline Register load_register(const std::uint8_t* p) noexcept {
    return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
}
inline void store_register(std::uint8_t* p, Register v) noexcept {
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), v);
}
inline void stream_register(std::uint8_t* p, Register v) noexcept {
    _mm256_stream_si256(reinterpret_cast<__m256i*>(p), v);
}
inline Register both(Register a, Register b) noexcept {
    return _mm256_and_si256(a, b);
}
inline Register either(Register a, Register b) noexcept {
    return _mm256_or_si256(a, b);
}
inline Register either_masked(Register a, Register b, Register mask) noexcept {
    return _mm256_or_si256(a, _mm256_and_si256(b, mask));
}
#endif

// So far ahead a core asks for memory by itself too late; it may lie beyond the end.
inline void prefetch_numbers(const std::uint8_t* p) noexcept {
    _mm_prefetch(reinterpret_cast<const char*>(p) + 4096, _MM_HINT_T0);
}

// A shift by the same number of bits everywhere.
using Shift = __m128i;
inline Shift shift_by(unsigned bits) noexcept {
    return _mm_cvtsi32_si128(static_cast<int>(bits));
}

// Numbers of sizeof(T) bytes in a register.
template <typename T>
struct Vector;

template <>
struct Vector<std::uint16_t> {
    static constexpr std::size_t kCount = sizeof(Register) / 2;
#if defined(__AVX512BW__)
    static Register all(std::uint16_t x) noexcept { return _mm512_set1_epi16(static_cast<short>(x)); }
    static Register add(Register a, Register b) noexcept { return _mm512_add_epi16(a, b); }
    static Register left(Register v, Shift s) noexcept { return _mm512_sll_epi16(v, s); }
    static Register right(Register v, Shift s) noexcept { return _mm512_srl_epi16(v, s); }
    static Register widen(const std::uint8_t* bytes) noexcept {
        return _mm512_cvtepu8_epi16(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(bytes)));
    }
    // The low byte of each number.
    static void narrow(Register v, std::uint8_t* bytes) noexcept {
        _mm256_storeu_si256(reinterpret_cast<__m256i*>(bytes), _mm512_cvtepi16_epi8(v));
    }
#else
    static Register all(std::uint16_t x) noexcept { return _mm256_set1_epi16(static_cast<short>(x)); }
    static Register add(Register a, Register b) noexcept { return _mm256_add_epi16(a, b); }
    static Register left(Register v, Shift s) noexcept { return _mm256_sll_epi16(v, s); }
    static Register right(Register v, Shift s) noexcept { return _mm256_srl_epi16(v, s); }
    static Register widen(const std::uint8_t* bytes) noexcept {
        return _mm256_cvtepu8_epi16(_mm_loadu_si128(reinterpret_cast<const __m128i*>(bytes)));
    }
    static void narrow(Register v, std::uint8_t* bytes) noexcept {
        const __m256i low = _mm256_and_si256(v, _mm256_set1_epi16(0xFF));
        const __m128i packed =
            _mm_packus_epi16(_mm256_castsi256_si128(low), _mm256_extracti128_si256(low, 1));
        _mm_storeu_si128(reinterpret_cast<__m128i*>(bytes), packed);
    }
#endif
};

template <>
struct Vector<std::uint32_t> {
    static constexpr std::size_t kCount = sizeof(Register) / 4;
#if defined(__AVX512BW__)
    static Register all(std::uint32_t x) noexcept { return _mm512_set1_epi32(static_cast<int>(x)); }
    static Register add(Register a, Register b) noexcept { return _mm512_add_epi32(a, b); }
    static Register left(Register v, Shift s) noexcept { return _mm512_sll_epi32(v, s); }
    static Register right(Register v, Shift s) noexcept { return _mm512_srl_epi32(v, s); }
    static Register widen(const std::uint8_t* bytes) noexcept {
        return _mm512_cvtepu8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(bytes)));
    }
    static void narrow(Register v, std::uint8_t* bytes) noexcept {
        _mm_storeu_si128(reinterpret_cast<__m128i*>(bytes), _mm512_cvtepi32_epi8(v));
    }
#else
    static Register all(std::uint32_t x) noexcept { return _mm256_set1_epi32(static_cast<int>(x)); }
    static Register add(Register a, Register b) noexcept { return _mm256_add_epi32(a, b); }
    static Register left(Register v, Shift s) noexcept { return _mm256_sll_epi32(v, s); }
    static Register right(Register v, Shift s) noexcept { return _mm256_srl_epi32(v, s); }
    static Register widen(const std::uint8_t* bytes) noexcept {
        return _mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(bytes)));
    }
    static void narrow(Register v, std::uint8_t* bytes) noexcept {
        const __m256i firsts = _mm256_setr_epi8(0, 4, 8, 12, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1,
                                                0, 4, 8, 12, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1);
        const __m256i fours = _mm256_shuffle_epi8(v, firsts);
        const __m128i packed =
            _mm_unpacklo_epi32(_mm256_castsi256_si128(fours), _mm256_extracti128_si256(fours, 1));
        _mm_storel_epi64(reinterpret_cast<__m128i*>(bytes), packed);
    }
#endif
};

template <typename T, unsigned kBytes, bool kLow>
std::size_t join_vectors(const NumberFormat& format, const SymbolMap& map, const RawBits& raw,
                         const std::uint8_t* symbols, std::size_t n, const ConstPlanes& planes,
                         std::uint8_t* numbers, Destination destination) noexcept {
    using V = Vector<T>;
    const unsigned kept = format.mantissa_bits - raw.zeros;
    const Register exponent_mask = V::all(static_cast<T>((1U << format.exponent_bits) - 1));
    const Register mantissa_mask = V::all(static_cast<T>((T{1} << kept) - 1));
    const Register base = V::all(static_cast<T>(map.base));
    const Shift mantissa = shift_by(format.mantissa_bits);
    const Shift zeros = shift_by(raw.zeros);
    const Shift low_bits = shift_by(raw.low(format));
    const Shift sign = shift_by(kept);
    const Shift sign_at = shift_by(format.mantissa_bits + format.exponent_bits);
    const auto value_at = [&](std::size_t i) {
        Register bits = V::all(0);
        if constexpr (kBytes > 0) bits = V::widen(planes.bytes[0] + i);
        if constexpr (kBytes > 1) bits = either(bits, V::left(V::widen(planes.bytes[1] + i), shift_by(8)));
        if constexpr (kBytes > 2) bits = either(bits, V::left(V::widen(planes.bytes[2] + i), shift_by(16)));
        if constexpr (kLow) bits = either(V::left(bits, low_bits), V::widen(planes.low + i));
        const Register exponent = both(V::add(V::widen(symbols + i), base), exponent_mask);
        const Register top = either(V::left(exponent, mantissa), V::left(V::right(bits, sign), sign_at));
        return raw.zeros == 0 ? either_masked(top, bits, mantissa_mask)
                              : either(top, V::left(both(bits, mantissa_mask), zeros));
    };
    std::size_t i = 0;
    const std::size_t misplaced = reinterpret_cast<std::uintptr_t>(numbers) % sizeof(Register);
    if (destination == Destination::memory && n >= 2 * V::kCount && misplaced % sizeof(T) == 0) {
        if (misplaced != 0) {  // up to where registers lie on their boundaries
            store_register(numbers, value_at(0));
            i = (sizeof(Register) - misplaced) / sizeof(T);
        }
        for (; i + V::kCount <= n; i += V::kCount) stream_register(numbers + i * sizeof(T), value_at(i));
    }
    for (; i + V::kCount <= n; i += V::kCount) store_register(numbers + i * sizeof(T), value_at(i));
    return i;
}

// kPlain: with the symbols of an unescaped map.
template <typename T, unsigned kBytes, bool kLow, bool kPlain>
std::size_t split_vectors(const NumberFormat& format, const RawBits& raw, const std::uint8_t* numbers,
                          std::size_t n, std::uint8_t* symbols, const Planes& planes) noexcept {
    using V = Vector<T>;
    const unsigned kept = format.mantissa_bits - raw.zeros;
    const Register exponent_mask = V::all(static_cast<T>((1U << format.exponent_bits) - 1));
    const Register mantissa_mask = V::all(static_cast<T>((T{1} << kept) - 1));
    const Register sign_mask = V::all(static_cast<T>(raw.plus ? 0 : T{1} << kept));
    const Register low_mask = V::all(static_cast<T>((1U << raw.low(format)) - 1));
    const Shift mantissa = shift_by(format.mantissa_bits);
    const Shift zeros = shift_by(raw.zeros);
    const Shift low_bits = shift_by(raw.low(format));
    const Shift sign = shift_by(format.mantissa_bits + format.exponent_bits - kept);
    std::size_t i = 0;
    for (; i + V::kCount <= n; i += V::kCount) {
        const Register x = load_register(numbers + i * sizeof(T));
        prefetch_numbers(numbers + i * sizeof(T));
        if constexpr (kPlain) V::narrow(both(V::right(x, mantissa), exponent_mask), symbols + i);
        Register bits = either_masked(both(V::right(x, sign), sign_mask), V::right(x, zeros), mantissa_mask);
        if constexpr (kLow) {
            V::narrow(both(bits, low_mask), planes.low + i);
            bits = V::right(bits, low_bits);
        }
        if constexpr (kBytes > 0) V::narrow(bits, planes.bytes[0] + i);
        if constexpr (kBytes > 1) V::narrow(V::right(bits, shift_by(8)), planes.bytes[1] + i);
        if constexpr (kBytes > 2) V::narrow(V::right(bits, shift_by(16)), planes.bytes[2] + i);
    }
    return i;
}

// Symbols of an unescaped map; ORs the numbers into `any`.
template <typename T>
std::size_t symbols_vectors(const NumberFormat& format, const std::uint8_t* numbers, std::size_t n,
                            std::uint8_t* symbols, T& any) noexcept {
    using V = Vector<T>;
    const Register exponent_mask = V::all(static_cast<T>((1U << format.exponent_bits) - 1));
    const Shift mantissa = shift_by(format.mantissa_bits);
    Register all = V::all(0);
    std::size_t i = 0;
    for (; i + V::kCount <= n; i += V::kCount) {
        const Register x = load_register(numbers + i * sizeof(T));
        prefetch_numbers(numbers + i * sizeof(T));
        all = either(all, x);
        V::narrow(both(V::right(x, mantissa), exponent_mask), symbols + i);
    }
    alignas(sizeof(Register)) T parts[V::kCount];
    store_register(reinterpret_cast<std::uint8_t*>(parts), all);
    for (const T part : parts) any = static_cast<T>(any | part);
    return i;
}

}  // namespace
}  // namespace nncodec::planes

#endif
