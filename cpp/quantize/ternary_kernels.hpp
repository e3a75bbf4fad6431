// The table of ternary loops that each instruction set fills; used by ternary.cpp alone.
#pragma once

#include <array>

#include "quantize/ternary.hpp"

namespace nncodec::ternary {

// Indexed by element type: 0 float32, 1 float16, 2 bfloat16. `quantise` and `expand` are then indexed by
// layout.
struct Kernels {
    using Absmax = std::uint32_t (*)(const void*, const float*,
                                     std::size_t) noexcept;  // bits of |x|, maximum
    using Quantise = void (*)(const void*, float*, std::size_t, float scale, float half,
                              std::uint8_t*) noexcept;
    using Expand = void (*)(const std::uint8_t*, std::size_t, float scale, bool accumulate, void*) noexcept;

    std::array<Absmax, 3> absmax;
    std::array<std::array<Quantise, 2>, 3> quantise;
    std::array<std::array<Expand, 2>, 3> expand;
};

extern const Kernels kScalarKernels;
#if defined(__x86_64__)
extern const Kernels kAvx2Kernels;
extern const Kernels kAvx512Kernels;
#endif

}  // namespace nncodec::ternary
