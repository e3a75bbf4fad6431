#include "transform/klt.hpp"

#include <algorithm>
#include <array>
#include <cmath>

#include "base/dispatch.hpp"
#include "base/parallel.hpp"
#include "transform/klt_impl.hpp"

namespace nncodec::klt {

constinit const Kernels kScalarKernels{&multiply, &accumulate, &reflect};

const Kernels& kernels() {
    switch (active_isa()) {
#if defined(__x86_64__)
        case Isa::avx512:
            return kAvx512Kernels;
        case Isa::avx2:
            return kAvx2Kernels;
#endif
        default:
            return kScalarKernels;
    }
}

namespace {

// Columns as they are stored.
std::size_t padded(std::size_t n) noexcept {
    return (n + kColumnsAtOnce - 1) / kColumnsAtOnce * kColumnsAtOnce;
}

void multiply_rows(std::span<const float> in, std::size_t n, std::span<const float> matrix,
                   std::span<float> out) {
    constexpr std::size_t kBlock = 8 * kRowsAtOnce;  // rows for which a strip is read once
    const Kernels& k = kernels();
    const std::size_t columns = padded(n);
    thread_local std::vector<float> product;
    product.resize(kBlock * columns);
    std::vector<float> last;
    for (std::size_t at = 0; at < in.size(); at += kBlock * n) {
        const std::size_t rows = std::min(kBlock, (in.size() - at) / n);
        const std::size_t whole = (rows + kRowsAtOnce - 1) / kRowsAtOnce * kRowsAtOnce;
        const float* from = in.data() + at;
        if (rows < whole) {
            last.assign(whole * n, 0.0F);
            std::copy_n(from, rows * n, last.begin());
            from = last.data();
        }
        k.multiply(from, whole, n, matrix.data(), columns, product.data());
        for (std::size_t r = 0; r < rows; ++r)
            std::copy_n(product.data() + r * columns, n, out.data() + at + r * n);
    }
}

}  // namespace

Basis::Basis(std::size_t n, std::span<const double> transposed) : n_(n), rows_(n * padded(n)) {
    for (std::size_t c = 0; c < n; ++c) {
        for (std::size_t r = 0; r < n; ++r)
            rows_[entry_at(r, c, n)] = static_cast<float>(transposed[c * n + r]);
    }
}

float Basis::at(std::size_t row, std::size_t column) const noexcept {
    return rows_[entry_at(row, column, n_)];
}

void Basis::transpose() {
    transposed_.resize(rows_.size());
    for (std::size_t r = 0; r < n_; ++r) {
        for (std::size_t c = 0; c < n_; ++c) transposed_[entry_at(c, r, n_)] = at(r, c);
    }
}

void Basis::forward(std::span<const float> numbers, std::span<float> coefficients) const {
    multiply_rows(numbers, n_, transposed_, coefficients);
}

void Basis::inverse(std::span<const float> coefficients, std::span<float> numbers) const {
    multiply_rows(coefficients, n_, rows_, numbers);
}

Moments second_moments(std::size_t rows, std::size_t n, std::size_t threads,
                       const std::function<void(std::size_t, std::span<double>)>& load) {
    constexpr std::size_t kRowsAtATime = 256;  // between two hand-overs to the threads
    constexpr std::size_t kStripe = 32;        // rows of the matrix that one task adds to
    Moments moments{std::vector<double>(n * n), 0};
    std::vector<double> x(kRowsAtATime * n);
    const Kernels& k = kernels();
    for (std::size_t first = 0; first < rows; first += kRowsAtATime) {
        std::size_t live = 0;
        for (std::size_t r = first; r < std::min(rows, first + kRowsAtATime); ++r) {
            const std::span<double> row(x.data() + live * n, n);
            load(r, row);
            double square = 0;
            for (const double value : row) square += value * value;
            if (!(square >= 0x1p-900) || !(square <= 0x1p900)) continue;
            const double scale = 1 / std::sqrt(square);
            for (double& value : row) value *= scale;
            ++live;
        }
        moments.rows += live;
        const std::size_t padded = (live + kRowsAtOnce - 1) / kRowsAtOnce * kRowsAtOnce;
        std::fill(x.begin() + static_cast<std::ptrdiff_t>(live * n),
                  x.begin() + static_cast<std::ptrdiff_t>(padded * n), 0.0);
        parallel_for((n + kStripe - 1) / kStripe, threads, [&](std::size_t stripe) {
            for (std::size_t r = 0; r < padded; r += kRowsAtOnce) {
                k.accumulate(x.data() + r * n, n, stripe * kStripe, std::min(n, (stripe + 1) * kStripe),
                             moments.matrix.data());
            }
        });
    }
    for (std::size_t i = 0; i < n; ++i) {
        for (std::size_t j = 0; j < i; ++j) moments.matrix[i * n + j] = moments.matrix[j * n + i];
    }
    return moments;
}

}  // namespace nncodec::klt
