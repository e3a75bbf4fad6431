// The loops of the Karhunen-Loeve transform that each instruction set fills; used by klt.cpp alone.
#pragma once

#include <cstddef>

namespace nncodec::klt {

inline constexpr std::size_t kRowsAtOnce = 4;
inline constexpr std::size_t kColumnsAtOnce = 64;  // strides are multiples of it

struct Kernels {
    // out[r][j] = sum over ascending k < n of in[r][k] * matrix[k][j], for kRowsAtOnce rows. Rows of `matrix`
    // and `out` are `stride` floats, those of `in` n.
    void (*multiply)(const float* in, std::size_t n, const float* matrix, std::size_t stride,
                     float* out) noexcept;
    // matrix[i][j] += sum over ascending r < kRowsAtOnce of rows[r][i] * rows[r][j], for i in [first, end), j
    // in [i, n).
    void (*accumulate)(const double* rows, std::size_t n, std::size_t first, std::size_t end,
                       double* matrix) noexcept;
    // Each of the columns first .. n - 1 of `size` rows of n, as a vector x, becomes (x . v) / v[0] * v - x:
    // the reflection that exchanges e0 and the unit vector u of which v = u + e0. `sum` is room for n
    // numbers.
    void (*reflect)(const double* v, std::size_t size, std::size_t first, std::size_t n, double* rows,
                    double* sum) noexcept;
};

// Those of the active instruction set.
const Kernels& kernels();

extern const Kernels kScalarKernels;
#if defined(__x86_64__)
extern const Kernels kAvx2Kernels;
extern const Kernels kAvx512Kernels;
#endif

}  // namespace nncodec::klt
