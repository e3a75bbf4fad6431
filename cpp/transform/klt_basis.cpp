// The coding of the basis: rows as integer vectors in the complement of the rows before, turned into
// reflections.
#include <algorithm>
#include <array>
#include <cmath>
#include <cstdlib>
#include <memory>

#include "entropy/adaptive_bytes.hpp"
#include "entropy/models.hpp"
#include "transform/klt.hpp"
#include "transform/klt_kernels.hpp"

namespace nncodec::klt {
namespace {

constexpr unsigned kClasses = 32;
constexpr int kClassOfOne = 8;  // of entries whose standard deviation is the quantiser's step
constexpr std::uint32_t kMaxEntry = std::uint32_t{1} << 20;  // sums of squares stay exact in binary64

// The entries of one row: magnitude, and a sign but for the first entry, which is not negative.
class EntryModel {
  public:
    template <typename Coder>
    void code(Coder& coder, unsigned row_class, std::span<std::int32_t> row) {
        for (std::size_t i = 0; i < row.size(); ++i) {
            const bool negative = row[i] < 0;  // a decoder does not know, and is not asked
            const std::uint32_t magnitude =
                magnitude_[row_class].code(coder, static_cast<std::uint32_t>(std::abs(row[i])));
            if (magnitude > kMaxEntry) throw DecodeError("an entry of the basis is above 2^20");
            row[i] = static_cast<std::int32_t>(magnitude);
            if (i != 0 && magnitude != 0 && coder.direct(negative ? 1 : 0, 1) != 0) row[i] = -row[i];
        }
    }

  private:
    std::array<range::ExpGolomb<>, kClasses> magnitude_;
};

// u + e0, where u is the row as a unit vector; u[0] >= 0.
void reflection(std::span<const std::int32_t> row, std::span<double> v) {
    std::uint64_t square = 0;
    for (const std::int32_t q : row) square += static_cast<std::uint64_t>(std::int64_t{q} * std::int64_t{q});
    if (square == 0) throw DecodeError("a row of the basis is zero");
    const double norm = std::sqrt(static_cast<double>(square));
    for (std::size_t i = 0; i < row.size(); ++i) v[i] = static_cast<double>(row[i]) / norm;
    v[0] += 1;
}

// Row k has n - k entries; all rows one after the other.
std::span<std::int32_t> row_of(std::vector<std::int32_t>& entries, std::size_t n, std::size_t k) noexcept {
    return std::span(entries).subspan(k * (2 * n - k + 1) / 2, n - k);
}

Basis build(std::vector<std::int32_t>& entries, std::size_t n) {
    std::vector<double> transposed(n * n);
    for (std::size_t i = 0; i < n; ++i) transposed[i * n + i] = 1;
    std::vector<double> v(n);
    std::vector<double> sum(n);
    for (std::size_t k = n - 1; k-- > 0;) {
        const std::span<double> of_row(v.data(), n - k);
        reflection(row_of(entries, n, k), of_row);
        kernels().reflect(of_row.data(), of_row.size(), k, n, transposed.data() + k * n, sum.data());
    }
    return Basis(n, transposed);
}

}  // namespace

EncodedBasis encode_basis(std::vector<double> vectors, std::span<const double> values, std::size_t n,
                          double rows) {
    std::vector<double>& target = vectors;  // what is left to be coded; transposed: column k is vector k
    std::vector<double> v(n);
    std::vector<double> sum(n);
    std::vector<std::int32_t> entries(n * (n + 1) / 2);
    Bytes classes(n - 1);
    for (std::size_t k = 0; k + 1 < n; ++k) {
        const std::size_t m = n - k;
        // An angle t between vectors k and j costs rows / (2 ln 2) t^2 (a / b + b / a - 2) bits, a and b
        // being their variances; an entry costs log2 of one over its error. Where the sum is least:
        double mean = 0;
        for (std::size_t j = k + 1; j < n; ++j) mean += values[k] / values[j] + values[j] / values[k] - 2;
        mean /= static_cast<double>(m - 1);
        const double finest = 0x1p32;
        const double inverse_square = std::clamp(rows * mean / 12, 1.0, finest);  // 1 / step^2
        const double inverse_step = std::sqrt(inverse_square);
        int exponent = 0;
        std::frexp(inverse_square / static_cast<double>(m), &exponent);
        classes[k] = static_cast<std::uint8_t>(
            std::clamp(exponent + kClassOfOne - 1, 0, static_cast<int>(kClasses) - 1));

        const std::span<std::int32_t> row = row_of(entries, n, k);
        const double sign = target[k * n + k] < 0 ? -1 : 1;
        bool zero = true;
        for (std::size_t i = 0; i < m; ++i) {
            const double x = sign * target[(k + i) * n + k] * inverse_step;
            row[i] = static_cast<std::int32_t>(std::floor(x + 0.5));
            zero = zero && row[i] == 0;
        }
        if (zero) row[0] = 1;  // any vector will do
        const std::span<double> of_row(v.data(), m);
        reflection(row, of_row);
        kernels().reflect(of_row.data(), of_row.size(), k + 1, n, target.data() + k * n, sum.data());
    }

    std::vector<double>().swap(vectors);  // memory for what is built
    EncodedBasis encoded{build(entries, n), {}};
    encoded.basis.transpose();
    ByteWriter out;
    Bytes stream;
    adaptive::encode_bytes(classes, stream);
    out.block(stream);
    stream.clear();
    range::BinaryEncoder coder(stream);
    const auto model = std::make_unique<EntryModel>();
    for (std::size_t k = 0; k + 1 < n; ++k) {
        model->code(coder, classes[k], row_of(entries, n, k));
    }
    coder.finish();
    out.block(stream);
    encoded.bytes = out.take();
    return encoded;
}

Basis decode_basis(ByteReader& in, std::size_t n) {
    Bytes classes(n - 1);
    adaptive::decode_bytes(in.block("classes of the basis"), classes);
    const ByteView stream = in.block("entries of the basis");
    std::vector<std::int32_t> entries(n * (n + 1) / 2);
    range::BinaryDecoder coder(stream);
    const auto model = std::make_unique<EntryModel>();
    for (std::size_t k = 0; k + 1 < n; ++k) {
        if (classes[k] >= kClasses) in.fail("class of a row of the basis", "is above 31");
        check(coder.status(), "entries of the basis");
        model->code(coder, classes[k], row_of(entries, n, k));
    }
    check(coder.finish(), "entries of the basis");
    return build(entries, n);
}

}  // namespace nncodec::klt
