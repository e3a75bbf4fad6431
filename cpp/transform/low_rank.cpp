#include "transform/low_rank.hpp"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <utility>

#include "base/error.hpp"
#include "transform/klt.hpp"

namespace nncodec::low_rank {
namespace {

constexpr double kTolerance = 0x1p-46;

// The matrix with its shorter side across: rows of n numbers, n <= how many there are.
struct Tall {
    std::size_t rows = 0;
    std::size_t n = 0;
    bool turned = false;
    std::vector<double> numbers;
};

Tall tall(std::span<const double> matrix, std::size_t rows, std::size_t columns) {
    Tall t{std::max(rows, columns), std::min(rows, columns), columns > rows, {}};
    t.numbers.assign(matrix.begin(), matrix.end());
    if (t.turned) {
        for (std::size_t r = 0; r < rows; ++r) {
            for (std::size_t c = 0; c < columns; ++c) t.numbers[c * rows + r] = matrix[r * columns + c];
        }
    }
    return t;
}

// Upper triangle of the sum over rows of x x', mirrored.
std::vector<double> gram(const Tall& t) {
    std::vector<double> g(t.n * t.n);
    for (std::size_t r = 0; r < t.rows; ++r) {
        const double* x = t.numbers.data() + r * t.n;
        for (std::size_t i = 0; i < t.n; ++i) {
            const double a = x[i];
            double* to = g.data() + i * t.n;
            for (std::size_t j = i; j < t.n; ++j) to[j] += a * x[j];
        }
    }
    for (std::size_t i = 0; i < t.n; ++i) {
        for (std::size_t j = 0; j < i; ++j) g[i * t.n + j] = g[j * t.n + i];
    }
    return g;
}

std::size_t chosen(const Choice& keep, std::span<const double> values) {
    if (keep.rank != 0) return std::min(keep.rank, values.size());
    double total = 0;
    for (const double s : values) total += s * s;
    double sum = 0;
    std::size_t rank = 0;
    do {
        sum += values[rank] * values[rank];
        ++rank;
    } while (rank < values.size() && values[rank] > 0 && sum < keep.energy * total);
    return rank;
}

}  // namespace

Factors decompose(std::span<const double> matrix, std::size_t rows, std::size_t columns, const Choice& keep,
                  std::vector<double>& singular_values) {
    if (rows == 0 || columns == 0 || matrix.size() != rows * columns)
        throw ArgumentError("a matrix of low rank needs rows and columns");
    double largest = 0;
    for (const double x : matrix) largest = std::max(largest, std::abs(x));
    int exponent = 0;
    std::frexp(largest, &exponent);
    Tall t = tall(matrix, rows, columns);  // scaled by a power of two, so that squares neither over- nor
    for (double& x : t.numbers) x = std::ldexp(x, -exponent);  // underflow
    const std::size_t n = t.n;
    std::vector<double> values(n);
    std::vector<double> vectors(n * n);
    std::vector<double> moments = gram(t);
    // A shift leaves the eigenvectors and makes the solver's test of convergence, which is relative to the
    // eigenvalues, relative to the largest: most of them may be zero, but for rounding, and never settle.
    double shift = 0;
    for (std::size_t i = 0; i < n; ++i) shift = std::max(shift, moments[i * n + i]);
    for (std::size_t i = 0; i < n; ++i) moments[i * n + i] += shift;
    if (!klt::eigenvectors(std::move(moments), n, values, vectors, kTolerance))
        throw ArgumentError("singular values of a matrix were not found");
    // Rows times eigenvectors are orthogonal; their lengths are the singular values, more exactly so than the
    // roots of the eigenvalues.
    std::vector<double> along(t.rows * n);
    for (std::size_t r = 0; r < t.rows; ++r) {
        double* to = along.data() + r * n;
        for (std::size_t i = 0; i < n; ++i) {
            const double a = t.numbers[r * n + i];
            const double* v = vectors.data() + i * n;
            for (std::size_t k = 0; k < n; ++k) to[k] += a * v[k];
        }
    }
    std::vector<double> found(n);
    for (std::size_t r = 0; r < t.rows; ++r) {
        for (std::size_t k = 0; k < n; ++k) found[k] += along[r * n + k] * along[r * n + k];
    }
    std::vector<std::size_t> order(n);  // eigenvalues near zero come in any order
    std::iota(order.begin(), order.end(), std::size_t{0});
    std::stable_sort(order.begin(), order.end(),
                     [&](std::size_t a, std::size_t b) { return found[a] > found[b]; });
    std::vector<double> lengths(n);
    singular_values.resize(n);
    for (std::size_t k = 0; k < n; ++k) {
        lengths[k] = std::sqrt(found[order[k]]);
        singular_values[k] = std::ldexp(lengths[k], exponent);
    }
    const std::size_t rank = chosen(keep, lengths);
    Factors f{rows, rank, columns, {}, {}, {}};
    f.left.resize(rows * rank);
    f.right.resize(rank * columns);
    f.scales.resize(rank);
    for (std::size_t k = 0; k < rank; ++k) {
        const double s = singular_values[k];
        const double inverse = s > 0 ? 1 / s : 0;
        f.scales[k] = std::isfinite(static_cast<float>(inverse)) ? static_cast<float>(inverse) : 0.0F;
        // What the rounded scale leaves is made up for by the shorter factor.
        const double across = f.scales[k] > 0 ? 1 / static_cast<double>(f.scales[k]) : 0;
        const std::size_t from = order[k];
        for (std::size_t r = 0; r < t.rows; ++r) {
            const auto x = static_cast<float>(std::ldexp(along[r * n + from], exponent));
            (t.turned ? f.right[k * columns + r] : f.left[r * rank + k]) = x;
        }
        for (std::size_t i = 0; i < n; ++i) {
            const auto x = static_cast<float>(vectors[i * n + from] * across);
            (t.turned ? f.left[i * rank + k] : f.right[k * columns + i]) = x;
        }
    }
    return f;
}

void product(std::span<const float> left, std::span<const float> scales, std::span<const float> right,
             std::size_t columns, std::size_t first, std::span<double> out) {
    const std::size_t rank = scales.size();
    std::size_t row = first / columns;
    std::size_t column = first % columns;
    for (std::size_t done = 0; done < out.size(); ++row, column = 0) {
        const std::size_t width = std::min(columns - column, out.size() - done);
        double* to = out.data() + done;
        std::fill(to, to + width, 0.0);
        for (std::size_t k = 0; k < rank; ++k) {
            const double a = static_cast<double>(left[row * rank + k]) * static_cast<double>(scales[k]);
            const float* from = right.data() + k * columns + column;
            for (std::size_t j = 0; j < width; ++j) to[j] += a * static_cast<double>(from[j]);
        }
        done += width;
    }
}

}  // namespace nncodec::low_rank
