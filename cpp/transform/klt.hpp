// Karhunen-Loeve transform over the columns of a matrix: the orthogonal basis in which the coefficients of
// its rows are uncorrelated, and its compact coding. Bytes: docs/format.md#column-transform
//
// What surprises: the basis is coded, not its entries: row k only in the complement of the rows before it, as
// a vector of small integers that is normalised and turned into a Householder reflection. So half of the
// entries suffice, whatever integers come is orthogonal, and coarser integers mean a basis that decorrelates
// a little less, not one that distorts. The encoder transforms with the basis that the decoder will have.
//
// Only +, -, *, / and square roots of doubles and floats in a fixed order, so that basis and products are the
// same everywhere.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "base/bytes.hpp"

namespace nncodec::klt {

inline constexpr std::size_t kMinColumns = 2;
inline constexpr std::size_t kMaxColumns = 1024;

// An orthogonal matrix, rows one after the other: row k is the k-th vector of the basis.
class Basis {
  public:
    Basis() = default;
    // `transposed[c * n + r]` is entry (r, c).
    Basis(std::size_t n, std::span<const double> transposed);

    std::size_t columns() const noexcept { return n_; }
    float at(std::size_t row, std::size_t column) const noexcept;

    // coefficients = numbers * transposed matrix; numbers = coefficients * matrix. Both arrays are whole rows
    // of columns() floats. Sums run over ascending indices from 0 on, each product and each sum rounded to
    // float.
    void forward(std::span<const float> numbers, std::span<float> coefficients) const;
    void inverse(std::span<const float> coefficients, std::span<float> numbers) const;
    // Gives back the memory of all but forward(): nothing else may be called any more.
    void keep_forward() noexcept { std::vector<float>().swap(rows_); }

  private:
    void transpose();

    std::size_t n_ = 0;
    std::vector<float> rows_;        // by strips, see klt_kernels.hpp, with columns of zeros at the end
    std::vector<float> transposed_;  // the same; filled by encoders alone

    friend struct EncodedBasis encode_basis(std::vector<double>, std::span<const double>, std::size_t,
                                            double);
};

// Second moments of rows of unit length: matrix[i * n + j] = sum over rows of x_i x_j / |x|^2. `n` at most
// kMaxColumns. `load(row, out)` gives n numbers; rows of zeros do not count.
struct Moments {
    std::vector<double> matrix;
    std::size_t rows = 0;  // that counted
};

Moments second_moments(std::size_t rows, std::size_t n, std::size_t threads,
                       const std::function<void(std::size_t, std::span<double>)>& load);

// The pivots of the Cholesky decomposition, whose product is the determinant; empty if the matrix is not
// positive definite.
std::vector<double> cholesky_pivots(std::vector<double> matrix, std::size_t n);

// Eigenvalues in descending order; eigenvectors as columns of `vectors` (n x n). False if it did not
// converge; `vectors` is then anything. An entry beside the diagonal counts as zero below `tolerance` times
// the diagonal ones beside it.
bool eigenvectors(std::vector<double> matrix, std::size_t n, std::span<double> values,
                  std::span<double> vectors, double tolerance = 0x1p-52);

struct EncodedBasis {
    Basis basis;  // the one that decode_basis gives
    Bytes bytes;
};

// `vectors` as eigenvectors gives them; `values` are what the coder of the coefficients sees (so that those
// far below the quantiser's error should be raised to it) and decide, with the number of rows, how fine each
// row of the basis is worth.
EncodedBasis encode_basis(std::vector<double> vectors, std::span<const double> values, std::size_t n,
                          double rows);

// Untrusted: throws DecodeError. n from kMinColumns to kMaxColumns.
Basis decode_basis(ByteReader& in, std::size_t n);

}  // namespace nncodec::klt
