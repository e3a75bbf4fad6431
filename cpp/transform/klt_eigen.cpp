// Eigenvectors of a symmetric matrix: Householder reflections to a tridiagonal one (Golub & Van Loan, Matrix
// Computations, 8.3.1), then QL iterations with implicit shifts (Dubrulle, Martin & Wilkinson 1968).
// Deterministic: only operations that IEEE 754 rounds exactly, in a fixed order.
#include <algorithm>
#include <cmath>
#include <numeric>
#include <utility>

#include "transform/klt.hpp"

namespace nncodec::klt {
namespace {

constexpr int kMaxIterations = 60;  // per eigenvalue; two or three are usual

struct Tridiagonal {
    std::vector<double> diagonal;
    std::vector<double> below;  // below[i] couples i and i + 1; the last one is 0
    std::span<double> basis;    // row i: the i-th vector of the basis in which the matrix is tridiagonal
};

void transpose(std::span<double> a, std::size_t n) noexcept {
    for (std::size_t i = 0; i < n; ++i) {
        for (std::size_t j = 0; j < i; ++j) std::swap(a[i * n + j], a[j * n + i]);
    }
}

// Row k becomes what row order[k] was.
void permute_rows(std::span<double> a, std::size_t n, std::vector<std::size_t> order) {
    std::vector<double> kept(n);
    const auto row = [&](std::size_t i) { return a.begin() + static_cast<std::ptrdiff_t>(i * n); };
    const auto width = static_cast<std::ptrdiff_t>(n);
    for (std::size_t first = 0; first < n; ++first) {
        if (order[first] == first) continue;
        std::copy_n(row(first), width, kept.begin());
        std::size_t to = first;
        for (std::size_t from = order[to]; from != first; from = order[to]) {
            std::copy_n(row(from), width, row(to));
            order[to] = to;
            to = from;
        }
        std::copy_n(kept.begin(), width, row(to));
        order[to] = to;
    }
}

// a - 2 v v' a with v' v = 2 / scale, on the rows of `a` from v's first index on; `sum` is scratch.
void reflect_rows(std::span<const double> v, double scale, std::size_t first, std::size_t n,
                  std::span<double> a, std::span<double> sum) noexcept {
    std::fill(sum.begin(), sum.end(), 0.0);
    for (std::size_t i = first; i < n; ++i) {
        for (std::size_t j = first; j < n; ++j) sum[j] += v[i] * a[i * n + j];
    }
    for (std::size_t i = first; i < n; ++i) {
        const double factor = scale * v[i];
        for (std::size_t j = first; j < n; ++j) a[i * n + j] -= factor * sum[j];
    }
}

// `basis`: n x n, for the outcome's.
Tridiagonal tridiagonalise(std::vector<double> a, std::size_t n, std::span<double> basis) {
    Tridiagonal t{std::vector<double>(n), std::vector<double>(n), basis};
    std::vector<double> scales(n);  // 2 / (v' v), 0 for no reflection
    std::vector<double> w(n);
    for (std::size_t k = 0; k + 1 < n; ++k) {
        double* v = a.data() + k * n;  // which no later step reads, but for its diagonal entry
        double square = 0;
        for (std::size_t i = k + 1; i < n; ++i) {
            v[i] = a[i * n + k];
            square += v[i] * v[i];
        }
        const double norm = std::sqrt(square);
        t.below[k] = v[k + 1] > 0 ? -norm : norm;
        if (k + 2 == n || !(norm > 0)) {
            t.below[k] = v[k + 1];
            continue;
        }
        v[k + 1] -= t.below[k];
        const double scale = scales[k] = 1 / (norm * std::abs(v[k + 1]));
        std::fill(w.begin(), w.end(), 0.0);
        for (std::size_t i = k + 1; i < n; ++i) {
            for (std::size_t j = k + 1; j < n; ++j) w[j] += v[i] * a[i * n + j];
        }
        double dot = 0;
        for (std::size_t j = k + 1; j < n; ++j) {
            w[j] *= scale;
            dot += w[j] * v[j];
        }
        for (std::size_t j = k + 1; j < n; ++j) w[j] -= 0.5 * scale * dot * v[j];
        for (std::size_t i = k + 1; i < n; ++i) {
            for (std::size_t j = k + 1; j < n; ++j) a[i * n + j] -= v[i] * w[j] + w[i] * v[j];
        }
    }
    for (std::size_t i = 0; i < n; ++i) t.diagonal[i] = a[i * n + i];
    // H0 H1 ... applied to the identity from the last one on; the columns of the product are the basis.
    std::fill(basis.begin(), basis.end(), 0.0);
    for (std::size_t i = 0; i < n; ++i) basis[i * n + i] = 1;
    for (std::size_t k = n; k-- > 0;) {
        if (scales[k] == 0) continue;
        reflect_rows(std::span<const double>(a).subspan(k * n, n), scales[k], k + 1, n, basis, w);
    }
    transpose(basis, n);
    return t;
}

void rotate(double* lower, double* upper, std::size_t n, double c, double s) noexcept {
    for (std::size_t k = 0; k < n; ++k) {
        const double u = upper[k];
        const double l = lower[k];
        upper[k] = s * l + c * u;
        lower[k] = c * l - s * u;
    }
}

// One implicit QL sweep over the unreduced block [first, last].
void sweep(Tridiagonal& t, std::size_t n, std::size_t first, std::size_t last) noexcept {
    auto& d = t.diagonal;
    auto& e = t.below;
    double g = (d[first + 1] - d[first]) / (2 * e[first]);
    const double root = std::sqrt(g * g + 1);
    g = d[last] - d[first] + e[first] / (g + (g >= 0 ? root : -root));
    double s = 1;
    double c = 1;
    double p = 0;
    for (std::size_t i = last; i-- > first;) {
        const double f = s * e[i];
        const double b = c * e[i];
        const double r = std::sqrt(f * f + g * g);
        e[i + 1] = r;
        if (r == 0) {  // the block falls apart here
            d[i + 1] -= p;
            e[last] = 0;
            return;
        }
        s = f / r;
        c = g / r;
        g = d[i + 1] - p;
        const double q = (d[i] - g) * s + 2 * c * b;
        p = s * q;
        d[i + 1] = g + p;
        g = c * q - b;
        rotate(t.basis.data() + i * n, t.basis.data() + (i + 1) * n, n, c, s);
    }
    d[first] -= p;
    e[first] = g;
    e[last] = 0;
}

bool diagonalise(Tridiagonal& t, std::size_t n, double tolerance) noexcept {
    for (std::size_t first = 0; first < n; ++first) {
        for (int iteration = 0;; ++iteration) {
            std::size_t last = first;
            for (; last + 1 < n; ++last) {
                const double size = std::abs(t.diagonal[last]) + std::abs(t.diagonal[last + 1]);
                if (std::abs(t.below[last]) <= tolerance * size) break;
            }
            if (last == first) break;
            if (iteration == kMaxIterations) return false;
            sweep(t, n, first, last);
        }
    }
    return std::all_of(t.diagonal.begin(), t.diagonal.end(), [](double x) { return std::isfinite(x); });
}

}  // namespace

std::vector<double> cholesky_pivots(std::vector<double> a, std::size_t n) {
    std::vector<double> pivots(n);
    for (std::size_t k = 0; k < n; ++k) {
        const double pivot = pivots[k] = a[k * n + k];
        if (!(pivot > 0) || !std::isfinite(pivot)) return {};
        for (std::size_t i = k + 1; i < n; ++i) {
            const double factor = a[k * n + i] / pivot;
            for (std::size_t j = i; j < n; ++j) a[i * n + j] -= factor * a[k * n + j];
        }
    }
    return pivots;
}

bool eigenvectors(std::vector<double> matrix, std::size_t n, std::span<double> values,
                  std::span<double> vectors, double tolerance) {
    Tridiagonal t = tridiagonalise(std::move(matrix), n, vectors);
    if (!diagonalise(t, n, tolerance)) return false;
    std::vector<std::size_t> order(n);
    std::iota(order.begin(), order.end(), std::size_t{0});
    std::stable_sort(order.begin(), order.end(),
                     [&](std::size_t a, std::size_t b) { return t.diagonal[a] > t.diagonal[b]; });
    for (std::size_t k = 0; k < n; ++k) values[k] = t.diagonal[order[k]];
    permute_rows(vectors, n, std::move(order));
    transpose(vectors, n);
    return true;
}

}  // namespace nncodec::klt
