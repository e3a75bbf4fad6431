// The loops themselves, compiled once per instruction set. Every lane does the same operations in the same
// order as the loop over single numbers would, so that all give the same bits.
#pragma once

#include <cstring>

#include "transform/klt_kernels.hpp"

namespace nncodec::klt {
namespace {

#if defined(__AVX512F__)
constexpr std::size_t kVectorBytes = 64;
constexpr std::size_t kVectors = 4;  // accumulators per row
#elif defined(__AVX2__)
constexpr std::size_t kVectorBytes = 32;
constexpr std::size_t kVectors = 2;
#else
constexpr std::size_t kVectorBytes = 16;
constexpr std::size_t kVectors = 2;
#endif
typedef float Vector __attribute__((vector_size(kVectorBytes)));
constexpr std::size_t kLanes = kVectorBytes / sizeof(float);
static_assert(kColumnsAtOnce % (kLanes * kVectors) == 0 && kStrip % kLanes == 0);

// Columns in the outer loop: the strips that are in use serve all rows from a near cache.
void multiply(const float* in, std::size_t rows, std::size_t n, const float* matrix, std::size_t columns,
              float* out) noexcept {
    for (std::size_t column = 0; column < columns; column += kLanes * kVectors) {
        const float* from[kVectors];
        for (std::size_t v = 0; v < kVectors; ++v) from[v] = matrix + entry_at(0, column + v * kLanes, n);
        for (std::size_t row = 0; row < rows; row += kRowsAtOnce) {
            const float* const numbers = in + row * n;
            Vector sum[kRowsAtOnce][kVectors] = {};
            for (std::size_t k = 0; k < n; ++k) {
                Vector b[kVectors];
#pragma GCC unroll 4
                for (std::size_t v = 0; v < kVectors; ++v)
                    std::memcpy(&b[v], from[v] + k * kStrip, sizeof(Vector));
#pragma GCC unroll 4
                for (std::size_t r = 0; r < kRowsAtOnce; ++r) {
                    const float a = numbers[r * n + k];
#pragma GCC unroll 4
                    for (std::size_t v = 0; v < kVectors; ++v) sum[r][v] = sum[r][v] + a * b[v];
                }
            }
#pragma GCC unroll 4
            for (std::size_t r = 0; r < kRowsAtOnce; ++r) {
#pragma GCC unroll 4
                for (std::size_t v = 0; v < kVectors; ++v)
                    std::memcpy(out + (row + r) * columns + column + v * kLanes, &sum[r][v], sizeof(Vector));
            }
        }
    }
}

void accumulate(const double* rows, std::size_t n, std::size_t first, std::size_t end,
                double* matrix) noexcept {
    const double* x0 = rows;
    const double* x1 = x0 + n;
    const double* x2 = x1 + n;
    const double* x3 = x2 + n;
    for (std::size_t i = first; i < end; ++i) {
        const double a0 = x0[i];
        const double a1 = x1[i];
        const double a2 = x2[i];
        const double a3 = x3[i];
        double* to = matrix + i * n;
        for (std::size_t j = i; j < n; ++j) {
            to[j] = to[j] + (((a0 * x0[j] + a1 * x1[j]) + a2 * x2[j]) + a3 * x3[j]);
        }
    }
}

void reflect(const double* v, std::size_t size, std::size_t first, std::size_t n, double* rows,
             double* sum) noexcept {
    for (std::size_t r = first; r < n; ++r) sum[r] = 0;
    for (std::size_t c = 0; c < size; ++c) {
        const double* const from = rows + c * n;
        const double factor = v[c];
        for (std::size_t r = first; r < n; ++r) sum[r] += factor * from[r];
    }
    const double divisor = v[0];
    for (std::size_t r = first; r < n; ++r) sum[r] /= divisor;
    for (std::size_t c = 0; c < size; ++c) {
        double* const to = rows + c * n;
        const double factor = v[c];
        for (std::size_t r = first; r < n; ++r) to[r] = sum[r] * factor - to[r];
    }
}

}  // namespace
}  // namespace nncodec::klt
