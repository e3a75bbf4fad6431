// The loops of the lattices that each instruction set fills; used by lattice.cpp alone.
#pragma once

#include <cstddef>
#include <cstdint>

namespace nncodec::lattice {

inline constexpr std::size_t kBlock = 8;  // vectors that are worked on side by side

// Blocks are axis-major: x[axis][vector].
struct Kernels {
    using Nearest = void (*)(const double* x, double* points) noexcept;
    Nearest of[5];
};

extern const Kernels kScalarKernels;
#if defined(__x86_64__)
extern const Kernels kAvx2Kernels;
extern const Kernels kAvx512Kernels;
#endif

}  // namespace nncodec::lattice
