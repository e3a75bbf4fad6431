#include "quantize/root.hpp"

#include <algorithm>
#include <cmath>

#include "base/error.hpp"

namespace nncodec {
namespace {

constexpr std::size_t kRows = 8;  // rows made together, so that those below are read once for all of them

// to -= factor * from
void subtract(double factor, const double* from, std::size_t n, double* to) noexcept {
    for (std::size_t i = 0; i < n; ++i) to[i] -= factor * from[i];
}

}  // namespace

void lower_root(std::span<double> matrix, std::size_t n) {
    if (matrix.size() != n * n) throw ArgumentError("a root needs a square matrix");
    double* const a = matrix.data();
    // From the last row up: A[j][k] = sum over rows i >= j of L[i][j] L[i][k].
    for (std::size_t end = n; end > 0;) {
        const std::size_t first = end - std::min(kRows, end);
        for (std::size_t below = n; below-- > end;) {
            const double* const row = a + below * n;
            for (std::size_t j = first; j < end; ++j) subtract(row[j], row, j + 1, a + j * n);
        }
        for (std::size_t j = end; j-- > first;) {
            double* const row = a + j * n;
            const double pivot = row[j];
            if (!(pivot > 0) || !std::isfinite(pivot)) {
                throw ArgumentError("a second moment is not positive definite: more damping is needed");
            }
            const double root = std::sqrt(pivot);
            for (std::size_t k = 0; k < j; ++k) row[k] /= root;
            row[j] = root;
            std::fill(row + j + 1, row + n, 0.0);
            for (std::size_t i = first; i < j; ++i) subtract(row[i], row, i + 1, a + i * n);
        }
        end = first;
    }
}

}  // namespace nncodec
