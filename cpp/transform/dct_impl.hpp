// The loops themselves, compiled once per instruction set. A lane is a block, and does what a loop over one
// block would do, in the same order.
#pragma once

#include <cstring>

#include "transform/dct.hpp"
#include "transform/dct_kernels.hpp"

namespace nncodec::dct {
namespace {

#if defined(__AVX512F__)
constexpr std::size_t kVectorBytes = 64;
#elif defined(__AVX2__)
constexpr std::size_t kVectorBytes = 32;
#else
constexpr std::size_t kVectorBytes = 16;
#endif
typedef float Vector __attribute__((vector_size(kVectorBytes)));
constexpr std::size_t kLanes = kVectorBytes / sizeof(float);
constexpr std::size_t kVectors = kBlocksAtOnce / kLanes;

// One number of each block.
struct Numbers {
    Vector part[kVectors];
};

// n numbers at `from`, `from + stride`, ... become as many of a sum of products each. Forward, row k of the
// matrix gives number k; backward, column k.
template <bool kForward>
inline void line(const float* matrix, std::size_t n, std::size_t stride, const Numbers* from,
                 Numbers* to) noexcept {
    for (std::size_t k = 0; k < n; ++k) {
        const float* factor = kForward ? matrix + k * n : matrix + k;
        constexpr std::size_t kUnit = 1;
        const std::size_t step = kForward ? kUnit : n;
        Numbers sum;
#pragma GCC unroll 4
        for (std::size_t v = 0; v < kVectors; ++v) sum.part[v] = from[0].part[v] * factor[0];
        for (std::size_t j = 1; j < n; ++j) {
            const float f = factor[j * step];
#pragma GCC unroll 4
            for (std::size_t v = 0; v < kVectors; ++v)
                sum.part[v] = sum.part[v] + from[j * stride].part[v] * f;
        }
        to[k * stride] = sum;
    }
}

template <bool kForward>
inline void along_width(const Sides& s, const Numbers* from, Numbers* to) noexcept {
    for (std::size_t r = 0; r < s.height; ++r)
        line<kForward>(s.columns, s.width, 1, from + r * s.width, to + r * s.width);
}

template <bool kForward>
inline void along_height(const Sides& s, const Numbers* from, Numbers* to) noexcept {
    for (std::size_t c = 0; c < s.width; ++c) line<kForward>(s.rows, s.height, s.width, from + c, to + c);
}

inline void gather(const float* from, std::size_t area, Numbers* to) noexcept {
    float* flat = reinterpret_cast<float*>(to);
    for (std::size_t e = 0; e < area; ++e) {
        for (std::size_t b = 0; b < kBlocksAtOnce; ++b) flat[e * kBlocksAtOnce + b] = from[b * area + e];
    }
}

inline void scatter(const Numbers* from, std::size_t area, float* to) noexcept {
    const float* flat = reinterpret_cast<const float*>(from);
    for (std::size_t e = 0; e < area; ++e) {
        for (std::size_t b = 0; b < kBlocksAtOnce; ++b) to[b * area + e] = flat[e * kBlocksAtOnce + b];
    }
}

template <bool kForward>
inline void blocks(const Sides& s, const float* from, float* to) noexcept {
    const std::size_t area = s.height * s.width;
    Numbers numbers[kMaxArea];
    Numbers other[kMaxArea];
    gather(from, area, numbers);
    Numbers* now = numbers;
    Numbers* next = other;
    const auto turn = [&] {
        Numbers* const last = now;
        now = next;
        next = last;
    };
    if (kForward && s.columns != nullptr) along_width<true>(s, now, next), turn();
    if (s.rows != nullptr) along_height<kForward>(s, now, next), turn();
    if (!kForward && s.columns != nullptr) along_width<false>(s, now, next), turn();
    scatter(now, area, to);
}

// The usual kernel, with its loops unrolled.
template <bool kForward>
void transform(const Sides& s, const float* from, float* to) noexcept {
    if (s.height == 3 && s.width == 3) {
        blocks<kForward>(Sides{3, 3, s.rows, s.columns}, from, to);
    } else {
        blocks<kForward>(s, from, to);
    }
}

}  // namespace
}  // namespace nncodec::dct
