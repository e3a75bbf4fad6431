// The loops of float_planes.hpp, included by one source file per instruction set, which compiles them with
// its own flags; plain C++ that compilers vectorise. The unnamed namespace keeps the copies apart.
#pragma once

#include <cstring>

#include "base/bytes.hpp"
#include "transform/float_planes.hpp"
#include "transform/float_planes_kernels.hpp"
#include "transform/float_planes_vectors.hpp"

namespace nncodec::planes {
namespace {

template <typename T>
struct Shape {
    unsigned mantissa;
    T exponent_mask;  // before the shift by `mantissa`

    explicit Shape(const NumberFormat& format)
        : mantissa(format.mantissa_bits), exponent_mask(static_cast<T>((T{1} << format.exponent_bits) - 1)) {}
};

template <typename T>
inline T load(const std::uint8_t* numbers, std::size_t i) noexcept {
    T value;
    std::memcpy(&value, numbers + i * sizeof(T), sizeof value);
    return value;
}

template <typename T, bool kEscaped, bool kSparse>
inline std::uint8_t symbol_of(T x, const Shape<T>& shape, std::int32_t base) noexcept {
    const T exponent = static_cast<T>(static_cast<T>(x >> shape.mantissa) & shape.exponent_mask);
    if constexpr (!kEscaped) return static_cast<std::uint8_t>(exponent);
    constexpr std::uint32_t lowest = kSparse ? 1 : 0;
    const std::uint32_t shifted = static_cast<std::uint32_t>(exponent) - static_cast<std::uint32_t>(base);
    const std::uint32_t symbol = shifted - lowest > 254 - lowest ? kEscape : shifted;
    return static_cast<std::uint8_t>(kSparse && x == 0 ? kZero : symbol);
}

template <typename T, bool kEscaped, bool kSparse>
std::uint64_t symbols_loop(const NumberFormat& format, std::int32_t base,
                           const std::uint8_t* __restrict numbers, std::size_t n,
                           std::uint8_t* __restrict symbols) noexcept {
    const Shape<T> shape(format);
    T any = 0;
    std::size_t done = 0;
#if defined(__AVX2__)
    if constexpr (!kEscaped && sizeof(T) <= 4) done = symbols_vectors<T>(format, numbers, n, symbols, any);
#endif
    for (std::size_t i = done; i < n; ++i) {
        const T x = load<T>(numbers, i);
        any = static_cast<T>(any | x);
        symbols[i] = symbol_of<T, kEscaped, kSparse>(x, shape, base);
    }
    return any;
}

template <typename T>
std::uint64_t symbols_for(const NumberFormat& format, const SymbolMap& map, const std::uint8_t* numbers,
                          std::size_t n, std::uint8_t* symbols) noexcept {
    if (map.sparse) return symbols_loop<T, true, true>(format, map.base, numbers, n, symbols);
    if (map.escaped) return symbols_loop<T, true, false>(format, map.base, numbers, n, symbols);
    return symbols_loop<T, false, false>(format, 0, numbers, n, symbols);
}

// kPlain: with the symbols of an unescaped map, so that the usual formats are read once.
template <typename T, unsigned kBytes, bool kLow, bool kPlain>
void split_loop(const NumberFormat& format, const RawBits& raw, const std::uint8_t* __restrict numbers,
                std::size_t n, std::uint8_t* __restrict symbols, const Planes& planes) noexcept {
    std::size_t done = 0;
#if defined(__AVX2__)
    if constexpr (sizeof(T) <= 4) {
        done = split_vectors<T, kBytes, kLow, kPlain>(format, raw, numbers, n, symbols, planes);
    }
#endif
    const Shape<T> shape(format);
    const unsigned kept = format.mantissa_bits - raw.zeros;
    const unsigned sign_at = format.mantissa_bits + format.exponent_bits;
    const unsigned low_bits = raw.low(format);
    const T mantissa_mask = static_cast<T>((T{1} << kept) - 1);
    const T sign_mask = raw.plus ? 0 : 1;
    const T low_mask = static_cast<T>((T{1} << low_bits) - 1);
    std::uint8_t* __restrict low = planes.low;
    std::uint8_t* __restrict p0 = planes.bytes[0];
    std::uint8_t* __restrict p1 = planes.bytes[1];
    std::uint8_t* __restrict p2 = planes.bytes[2];
    std::uint8_t* __restrict p3 = planes.bytes[3];
    std::uint8_t* __restrict p4 = planes.bytes[4];
    std::uint8_t* __restrict p5 = planes.bytes[5];
    for (std::size_t i = done; i < n; ++i) {
        const T x = load<T>(numbers, i);
        if constexpr (kPlain) symbols[i] = symbol_of<T, false, false>(x, shape, 0);
        const T sign = static_cast<T>(static_cast<T>(x >> sign_at) & sign_mask);
        const T bits = static_cast<T>(static_cast<T>(static_cast<T>(x >> raw.zeros) & mantissa_mask) |
                                      static_cast<T>(sign << kept));
        if constexpr (kLow) low[i] = static_cast<std::uint8_t>(bits & low_mask);
        const T high = static_cast<T>(bits >> low_bits);
        if constexpr (kBytes > 0) p0[i] = static_cast<std::uint8_t>(high);
        if constexpr (kBytes > 1) p1[i] = static_cast<std::uint8_t>(high >> 8);
        if constexpr (kBytes > 2) p2[i] = static_cast<std::uint8_t>(high >> 16);
        if constexpr (kBytes > 3) p3[i] = static_cast<std::uint8_t>(high >> 24);
        if constexpr (kBytes > 4) p4[i] = static_cast<std::uint8_t>(high >> 32);
        if constexpr (kBytes > 5) p5[i] = static_cast<std::uint8_t>(high >> 40);
    }
}

template <typename T, unsigned kBytes, bool kLow>
void join_loop(const NumberFormat& format, const SymbolMap& map, const RawBits& raw,
               const std::uint8_t* __restrict symbols, std::size_t n, const ConstPlanes& planes,
               std::uint8_t* __restrict numbers, [[maybe_unused]] Destination destination) noexcept {
    std::size_t done = 0;
#if defined(__AVX2__)
    if constexpr (sizeof(T) <= 4) {
        done = join_vectors<T, kBytes, kLow>(format, map, raw, symbols, n, planes, numbers, destination);
    }
#endif
    const Shape<T> shape(format);
    const unsigned zeros = raw.zeros;
    const unsigned kept = format.mantissa_bits - zeros;
    const unsigned sign_at = format.mantissa_bits + format.exponent_bits;
    const unsigned low_bits = raw.low(format);
    const T mantissa_mask = static_cast<T>((T{1} << kept) - 1);
    const T base = static_cast<T>(map.base);
    const std::uint8_t* __restrict low = planes.low;
    const std::uint8_t* __restrict p0 = planes.bytes[0];
    const std::uint8_t* __restrict p1 = planes.bytes[1];
    const std::uint8_t* __restrict p2 = planes.bytes[2];
    const std::uint8_t* __restrict p3 = planes.bytes[3];
    const std::uint8_t* __restrict p4 = planes.bytes[4];
    const std::uint8_t* __restrict p5 = planes.bytes[5];
    for (std::size_t i = done; i < n; ++i) {
        T high = 0;
        if constexpr (kBytes > 0) high = p0[i];
        if constexpr (kBytes > 1) high = static_cast<T>(high | static_cast<T>(static_cast<T>(p1[i]) << 8));
        if constexpr (kBytes > 2) high = static_cast<T>(high | static_cast<T>(static_cast<T>(p2[i]) << 16));
        if constexpr (kBytes > 3) high = static_cast<T>(high | static_cast<T>(static_cast<T>(p3[i]) << 24));
        if constexpr (kBytes > 4) high = static_cast<T>(high | static_cast<T>(static_cast<T>(p4[i]) << 32));
        if constexpr (kBytes > 5) high = static_cast<T>(high | static_cast<T>(static_cast<T>(p5[i]) << 40));
        T bits = static_cast<T>(high << low_bits);
        if constexpr (kLow) bits = static_cast<T>(bits | low[i]);
        const T exponent = static_cast<T>(static_cast<T>(symbols[i] + base) & shape.exponent_mask);
        const T value = static_cast<T>(static_cast<T>(exponent << shape.mantissa) |
                                       static_cast<T>(static_cast<T>(bits & mantissa_mask) << zeros) |
                                       static_cast<T>(static_cast<T>(bits >> kept) << sign_at));
        std::memcpy(numbers + i * sizeof(T), &value, sizeof value);
    }
}

// Turns the number of byte planes and the presence of low bits into template arguments.
template <typename T, unsigned kBytes, typename Call>
void with_planes(unsigned bytes, bool low, const Call& call) noexcept {
    if (bytes == kBytes) {
        if (low) {
            call.template operator()<kBytes, true>();
        } else {
            call.template operator()<kBytes, false>();
        }
        return;
    }
    if constexpr (kBytes > 0) with_planes<T, kBytes - 1>(bytes, low, call);
}

template <typename T>
inline constexpr unsigned kMostBytes = sizeof(T) == 8   ? 6
                                       : sizeof(T) == 4 ? 3
                                                        : 1;

template <typename T, bool kPlain>
void split_for(const NumberFormat& format, const RawBits& raw, const std::uint8_t* numbers, std::size_t n,
               std::uint8_t* symbols, const Planes& planes) noexcept {
    with_planes<T, kMostBytes<T>>(raw.bytes(format), raw.low(format) != 0, [&]<unsigned kBytes, bool kLow>() {
        split_loop<T, kBytes, kLow, kPlain>(format, raw, numbers, n, symbols, planes);
    });
}

template <typename T>
void join_for(const NumberFormat& format, const SymbolMap& map, const RawBits& raw,
              const std::uint8_t* symbols, std::size_t n, const ConstPlanes& planes, std::uint8_t* numbers,
              Destination destination) noexcept {
    with_planes<T, kMostBytes<T>>(raw.bytes(format), raw.low(format) != 0, [&]<unsigned kBytes, bool kLow>() {
        join_loop<T, kBytes, kLow>(format, map, raw, symbols, n, planes, numbers, destination);
    });
}

// Eight bytes' bits j gathered into one byte: the multiplication moves bit 8 i to bit 56 + i, and none
// collide.
inline std::uint8_t gather_bit(std::uint64_t eight, unsigned j) noexcept {
    return static_cast<std::uint8_t>((((eight >> j) & 0x0101010101010101U) * 0x0102040810204080U) >> 56);
}

// The inverse: bit i of `byte` becomes bit 0 of byte i.
inline std::uint64_t spread_bits(std::uint8_t byte) noexcept {
    const std::uint64_t copies = 0x0101010101010101U * byte & 0x8040201008040201U;
    return ((copies + 0x7F7F7F7F7F7F7F7FU) | copies) >> 7 & 0x0101010101010101U;
}

// These handle whole vectors from the start on and return how many values that were; the loops below do the
// rest.
#if defined(__AVX512BW__)
std::size_t pack_vectors(const std::uint8_t* values, std::size_t n, unsigned bits,
                         std::uint8_t* out) noexcept {
    const std::size_t stride = (n + 7) / 8;
    std::size_t i = 0;
    for (; i + 64 <= n; i += 64) {
        const __m512i v = _mm512_loadu_si512(values + i);
        for (unsigned j = 0; j < bits; ++j) {
            const __mmask64 plane = _mm512_test_epi8_mask(v, _mm512_set1_epi8(static_cast<char>(1 << j)));
            store_le<std::uint64_t>(out + j * stride + i / 8, plane);
        }
    }
    return i;
}

std::size_t unpack_vectors(const std::uint8_t* in, std::size_t n, unsigned bits,
                           std::uint8_t* values) noexcept {
    const std::size_t stride = (n + 7) / 8;
    std::size_t i = 0;
    for (; i + 64 <= n; i += 64) {
        __m512i v = _mm512_setzero_si512();
        for (unsigned j = 0; j < bits; ++j) {
            const __mmask64 plane = load_le<std::uint64_t>(in + j * stride + i / 8);
            v = _mm512_mask_add_epi8(v, plane, v, _mm512_set1_epi8(static_cast<char>(1 << j)));
        }
        _mm512_storeu_si512(values + i, v);
    }
    return i;
}
#elif defined(__AVX2__)
std::size_t pack_vectors(const std::uint8_t* values, std::size_t n, unsigned bits,
                         std::uint8_t* out) noexcept {
    const std::size_t stride = (n + 7) / 8;
    std::size_t i = 0;
    for (; i + 32 <= n; i += 32) {
        const __m256i v = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(values + i));
        for (unsigned j = 0; j < bits; ++j) {
            const __m256i top = _mm256_sll_epi16(v, _mm_cvtsi32_si128(static_cast<int>(7 - j)));
            store_le(out + j * stride + i / 8, static_cast<std::uint32_t>(_mm256_movemask_epi8(top)));
        }
    }
    return i;
}

std::size_t unpack_vectors(const std::uint8_t* in, std::size_t n, unsigned bits,
                           std::uint8_t* values) noexcept {
    const std::size_t stride = (n + 7) / 8;
    // Byte k of a group of eight looks at bit k of its byte of the plane.
    const __m256i byte_of = _mm256_setr_epi8(0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1, 2, 2, 2, 2, 2, 2,
                                             2, 2, 3, 3, 3, 3, 3, 3, 3, 3);
    const __m256i bit_of = _mm256_set1_epi64x(static_cast<long long>(0x8040201008040201U));
    std::size_t i = 0;
    for (; i + 32 <= n; i += 32) {
        __m256i v = _mm256_setzero_si256();
        for (unsigned j = 0; j < bits; ++j) {
            const auto plane = static_cast<int>(load_le<std::uint32_t>(in + j * stride + i / 8));
            const __m256i spread =
                _mm256_and_si256(_mm256_shuffle_epi8(_mm256_set1_epi32(plane), byte_of), bit_of);
            const __m256i set = _mm256_cmpeq_epi8(spread, bit_of);
            v = _mm256_or_si256(v, _mm256_and_si256(set, _mm256_set1_epi8(static_cast<char>(1 << j))));
        }
        _mm256_storeu_si256(reinterpret_cast<__m256i*>(values + i), v);
    }
    return i;
}
#else
std::size_t pack_vectors(const std::uint8_t*, std::size_t, unsigned, std::uint8_t*) noexcept {
    return 0;
}
std::size_t unpack_vectors(const std::uint8_t*, std::size_t, unsigned, std::uint8_t*) noexcept {
    return 0;
}
#endif

void pack_bits_loop(const std::uint8_t* values, std::size_t n, unsigned bits, std::uint8_t* out) noexcept {
    const std::size_t stride = (n + 7) / 8;
    for (std::size_t i = pack_vectors(values, n, bits, out) / 8; i < n / 8; ++i) {
        const std::uint64_t eight = load_le<std::uint64_t>(values + 8 * i);
        for (unsigned j = 0; j < bits; ++j) out[j * stride + i] = gather_bit(eight, j);
    }
    if (n % 8 != 0) {
        std::uint64_t eight = 0;
        std::memcpy(&eight, values + n / 8 * 8, n % 8);
        for (unsigned j = 0; j < bits; ++j) out[j * stride + n / 8] = gather_bit(eight, j);
    }
}

void unpack_bits_loop(const std::uint8_t* in, std::size_t n, unsigned bits, std::uint8_t* values) noexcept {
    const std::size_t stride = (n + 7) / 8;
    for (std::size_t i = unpack_vectors(in, n, bits, values) / 8; i < stride; ++i) {
        std::uint64_t eight = 0;
        for (unsigned j = 0; j < bits; ++j) eight |= spread_bits(in[j * stride + i]) << j;
        std::memcpy(values + 8 * i, &eight, i < n / 8 ? 8 : n % 8);
    }
}

constexpr Kernels make_kernels() noexcept {
    return {
        {symbols_for<std::uint16_t>, symbols_for<std::uint32_t>, symbols_for<std::uint64_t>},
        {split_for<std::uint16_t, false>, split_for<std::uint32_t, false>, split_for<std::uint64_t, false>},
        {split_for<std::uint16_t, true>, split_for<std::uint32_t, true>, split_for<std::uint64_t, true>},
        {join_for<std::uint16_t>, join_for<std::uint32_t>, join_for<std::uint64_t>},
        pack_bits_loop,
        unpack_bits_loop};
}

}  // namespace
}  // namespace nncodec::planes
