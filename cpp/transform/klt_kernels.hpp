// The loops of the Karhunen-Loeve transform that each instruction set fills; used by klt.cpp alone.
#pragma once

#include <cstddef>

namespace nncodec::klt {

inline constexpr std::size_t kRowsAtOnce = 4;
inline constexpr std::size_t kColumnsAtOnce = 64;  // padded to multiples of it
inline constexpr std::size_t kStrip = 16;          // columns of a matrix that are stored together

// Where entry (row, column) of a matrix of n rows lies: strip after strip, so that what is read together
// fills few cache lines, none of which competes with the others for a place. (Static: vector kernels must
// emit nothing that others might link.)
[[maybe_unused]] static constexpr std::size_t entry_at(std::size_t row, std::size_t column,
                                                       std::size_t n) noexcept {
    return (column / kStrip * n + row) * kStrip + column % kStrip;
}

struct Kernels {
    // out[r][j] = sum over ascending k < n of in[r][k] * matrix[k][j], for `rows` rows, a multiple of
    // kRowsAtOnce, and `columns` columns, a multiple of kColumnsAtOnce. The matrix is stored by strips, see
    // entry_at; rows of `out` are `columns` floats, those of `in` n.
    void (*multiply)(const float* in, std::size_t rows, std::size_t n, const float* matrix,
                     std::size_t columns, float* out) noexcept;
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
