// The loop itself, compiled once per instruction set. A lane belongs to one point of a tile; every set does
// the same operations in the same order in each lane, so that all give the same bits.
#pragma once

#include <cstdint>
#include <cstring>

#include "information/kernel_sums.hpp"
#include "information/kernel_sums_kernels.hpp"

namespace nncodec::information {
namespace {

#if defined(__AVX512F__)
constexpr std::size_t kLanes = 16;
#elif defined(__AVX2__)
constexpr std::size_t kLanes = 8;
#else
constexpr std::size_t kLanes = 4;
#endif
constexpr std::size_t kVectors = kTile / kLanes;  // per tile

typedef float Floats __attribute__((vector_size(kLanes * sizeof(float))));
typedef std::int32_t Ints __attribute__((vector_size(kLanes * sizeof(float))));
typedef std::uint64_t Words __attribute__((vector_size(kLanes * sizeof(float))));
typedef float HalfFloats __attribute__((vector_size(kLanes / 2 * sizeof(float))));
typedef double Doubles __attribute__((vector_size(kLanes / 2 * sizeof(double))));

// exp(-x / 4) for x in [0, kKernelCutoff], to about 1e-7: 2^k times a polynomial of the fraction in
// [-1/2, 1/2] (Taylor coefficients ln(2)^i / i!; the first one left out is below 2e-8 there).
inline void exp_quarter(const Floats& x, Floats& out) noexcept {
    constexpr float kRound = 12582912.0F;  // 1.5 * 2^23: adding it rounds to an integer
    const Floats y = x * -0.36067376F;     // log2(e) / 4
    const Floats shifted = y + kRound;
    const Floats fraction = y - (shifted - kRound);
    Floats p = fraction * 1.5403530e-4F + 1.3333558e-3F;
    p = p * fraction + 9.6181291e-3F;
    p = p * fraction + 5.5504109e-2F;
    p = p * fraction + 2.4022651e-1F;
    p = p * fraction + 6.9314718e-1F;
    p = p * fraction + 1.0F;
    Ints bits, power;
    std::memcpy(&bits, &p, sizeof bits);
    std::memcpy(&power, &shifted, sizeof power);
    bits = bits + (power << 23);  // the lowest bits of `shifted` are the integer
    std::memcpy(&out, &bits, sizeof out);
}

// One sum per lane of a tile, so that the order of additions does not depend on the width of a vector.
struct LaneSums {
    Doubles sums[kVectors][2] = {};

    void add(std::size_t v, const Floats& values) noexcept {
        HalfFloats halves[2];
        std::memcpy(halves, &values, sizeof halves);
        sums[v][0] = sums[v][0] + __builtin_convertvector(halves[0], Doubles);
        sums[v][1] = sums[v][1] + __builtin_convertvector(halves[1], Doubles);
    }

    double total() const noexcept {
        double result = 0;
        for (const auto& vector : sums) {
            for (const Doubles& half : vector) {
                for (std::size_t lane = 0; lane < kLanes / 2; ++lane) result += half[lane];
            }
        }
        return result;
    }
};

inline bool any_near(const Floats& distance) noexcept {
    const Ints near = distance <= kKernelCutoff;
    Words words;
    std::memcpy(&words, &near, sizeof words);
    std::uint64_t any = 0;
    for (std::size_t w = 0; w < sizeof words / sizeof any; ++w) any |= words[w];
    return any != 0;
}

// Squared distances of kQueries points to one vector of a tile. False: all are beyond the cutoff, and
// `distance` was not finished.
inline bool distances(const float* points, const float* query, std::size_t d,
                      Floats (&distance)[kQueries]) noexcept {
    for (std::size_t q = 0; q < kQueries; ++q) distance[q] = Floats{};
    for (std::size_t k = 0; k < d; k += kStride) {
#pragma GCC unroll 8
        for (std::size_t s = 0; s < kStride; ++s, points += kTile) {
            Floats point;
            std::memcpy(&point, points, sizeof point);
#pragma GCC unroll 4
            for (std::size_t q = 0; q < kQueries; ++q) {
                const Floats difference = point - query[q * d + k + s];
                distance[q] = distance[q] + difference * difference;
            }
        }
        Floats least = distance[0];
        for (std::size_t q = 1; q < kQueries; ++q) least = distance[q] < least ? distance[q] : least;
        if (!any_near(least)) return false;
    }
    return true;
}

inline void add_kernels(std::size_t v, const Floats& distance, LaneSums& near, LaneSums& wide) noexcept {
    const Ints inside = distance <= kKernelCutoff;
    Ints bits;
    std::memcpy(&bits, &distance, sizeof bits);
    bits &= inside;  // far lanes become 0, so that their power of two stays in range
    Floats x, value;
    std::memcpy(&x, &bits, sizeof x);
    exp_quarter(x, value);
    std::memcpy(&bits, &value, sizeof bits);
    bits &= inside;
    std::memcpy(&value, &bits, sizeof value);
    wide.add(v, value);
    value = value * value;
    near.add(v, value * value);
}

void class_sums(const float* tiles, std::size_t count, const float* query, std::size_t d, double* near,
                double* wide) noexcept {
    LaneSums near_sums[kQueries], wide_sums[kQueries];
    for (std::size_t tile = 0; tile < count; ++tile, tiles += d * kTile) {
        for (std::size_t v = 0; v < kVectors; ++v) {
            Floats distance[kQueries];
            if (!distances(tiles + v * kLanes, query, d, distance)) continue;
            for (std::size_t q = 0; q < kQueries; ++q) {
                if (any_near(distance[q])) add_kernels(v, distance[q], near_sums[q], wide_sums[q]);
            }
        }
    }
    for (std::size_t q = 0; q < kQueries; ++q) {
        near[q] = near_sums[q].total();
        wide[q] = wide_sums[q].total();
    }
}

}  // namespace
}  // namespace nncodec::information
