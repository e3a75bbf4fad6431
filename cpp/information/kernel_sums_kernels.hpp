// The loop of kernel_sums that each instruction set fills; used by kernel_sums.cpp alone.
#pragma once

#include <cstddef>

namespace nncodec::information {

inline constexpr std::size_t kTile = 16;    // points compared at once
inline constexpr std::size_t kQueries = 4;  // points whose sums are made at once
inline constexpr std::size_t kStride = 8;   // dimensions between two looks at how far the pairs are

// One class, as seen by kQueries points: tiles of kTile points, each d (a multiple of kStride) x kTile
// floats. query: kQueries rows of d. near, wide: the sums of exp(-x) and exp(-x / 4), per query.
using ClassSums = void (*)(const float* tiles, std::size_t count, const float* query, std::size_t d,
                           double* near, double* wide) noexcept;

struct Kernels {
    ClassSums class_sums;
};

extern const Kernels kScalarKernels;
#if defined(__x86_64__)
extern const Kernels kAvx2Kernels;
extern const Kernels kAvx512Kernels;
#endif

}  // namespace nncodec::information
