// The loops of the cosine transform that each instruction set fills; used by dct.cpp alone.
#pragma once

#include <cstddef>

namespace nncodec::dct {

inline constexpr std::size_t kBlocksAtOnce = 16;

// Sides and matrices of one transform; a matrix is null where its side is 1.
struct Sides {
    std::size_t height;
    std::size_t width;
    const float* rows;
    const float* columns;
};

struct Kernels {
    // kBlocksAtOnce blocks.
    void (*forward)(const Sides& sides, const float* from, float* to) noexcept;
    void (*inverse)(const Sides& sides, const float* from, float* to) noexcept;
};

extern const Kernels kScalarKernels;
#if defined(__x86_64__)
extern const Kernels kAvx2Kernels;
extern const Kernels kAvx512Kernels;
#endif

}  // namespace nncodec::dct
