#include "codecs/column_transform.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

#include "base/memory.hpp"

namespace nncodec {
namespace {

constexpr std::uint8_t kNone = 0;
constexpr std::uint8_t kKlt = 1;
constexpr std::size_t kFewestColumns = 16;  // that `automatic` tries
constexpr std::size_t kRowsPerColumn = 4;   // below, the basis costs more than it can bring
constexpr std::size_t kTrimFrom = 512;      // columns whose matrices leave megabytes, and take seconds
constexpr double kBitsPerEntry = 2;         // n * n of them: about four bits for each degree of freedom

// Bits that the transform saves on Gaussian rows, at an error of `floor` in each coefficient.
double estimated_gain(const klt::Moments& moments, std::size_t n, double floor) {
    std::vector<double> matrix = moments.matrix;
    for (std::size_t i = 0; i < n; ++i) matrix[i * n + i] += floor;
    const std::vector<double> pivots = klt::cholesky_pivots(std::move(matrix), n);
    if (pivots.empty()) return std::numeric_limits<double>::max();
    std::int64_t log2 = 0;
    for (std::size_t i = 0; i < n; ++i)
        log2 += scales::fixed_log2(moments.matrix[i * n + i] + floor) - scales::fixed_log2(pivots[i]);
    return static_cast<double>(log2) * 0x1p-17 * static_cast<double>(moments.rows);
}

// The same once the eigenvalues are known: their product is the determinant.
double known_gain(const ColumnStudy& study, double floor) {
    std::int64_t log2 = 0;
    for (std::size_t i = 0; i < study.values.size(); ++i) {
        log2 += scales::fixed_log2(study.diagonal[i] + floor) -
                scales::fixed_log2(std::max(study.values[i], 0.0) + floor);
    }
    return static_cast<double>(log2) * 0x1p-17 * static_cast<double>(study.rows);
}

}  // namespace

bool worth_a_study(const scales::View& view, std::size_t element_bytes) noexcept {
    if (view.flat()) return false;
    const std::size_t n = view.row_elements();
    constexpr std::size_t kShare = 12;
    return n >= kFewestColumns && n <= klt::kMaxColumns &&
           view.rows * element_bytes >= kShare * sizeof(double) * n;
}

std::optional<ColumnTransform> fit_column_transform(const FloatSource& source, const scales::View& view,
                                                    double step, const FloatStatistics& statistics,
                                                    TransformChoice choice, ColumnStudy* kept,
                                                    std::size_t threads) {
    if (choice == TransformChoice::none || view.flat()) return {};
    const bool automatic = choice == TransformChoice::automatic;
    const std::size_t n = view.row_elements();
    if (n < (automatic ? kFewestColumns : klt::kMinColumns) || n > klt::kMaxColumns) return {};
    if (view.rows < (automatic ? kRowsPerColumn : 1) * n) return {};
    // What float32 cannot hold, or not to a small part of a step, stays as it is.
    const double greatest = statistics.largest * std::sqrt(static_cast<double>(n));
    if (!(statistics.largest > 0) || !(greatest < 0x1p100) || !(step > 0x1p-100) ||
        !(greatest < 0x1p16 * step))
        return {};

    ColumnStudy own;
    ColumnStudy& study = kept != nullptr ? *kept : own;
    const std::lock_guard lock(study.mutex);
    if (!study.moments && study.values.empty()) {
        study.moments =
            klt::second_moments(view.rows, n, threads,
                                [&](std::size_t row, std::span<double> out) { source.load(row * n, out); });
        study.rows = study.moments->rows;
        study.diagonal.resize(n);
        for (std::size_t i = 0; i < n; ++i) study.diagonal[i] = study.moments->matrix[i * n + i];
    }
    if (study.rows == 0) return {};
    const double mean_square = statistics.energy / static_cast<double>(source.size());
    const double floor =
        step * step / (12 * mean_square) * static_cast<double>(study.rows) / static_cast<double>(n);
    const auto squared_n = static_cast<double>(n * n);
    if (automatic) {
        const double gain =
            study.moments ? estimated_gain(*study.moments, n, floor) : known_gain(study, floor);
        if (!(gain > kBitsPerEntry * squared_n)) return {};
    }
    std::vector<double> vectors;
    if (study.values.empty() && !study.without_vectors) {
        std::vector<double> values(n);
        vectors.resize(n * n);
        study.without_vectors = !klt::eigenvectors(std::move(study.moments->matrix), n, values, vectors);
        study.moments.reset();
        if (kept != nullptr) study.vectors.assign(vectors.begin(), vectors.end());
        study.values = std::move(values);
    }
    if (study.without_vectors) return {};
    if (kept != nullptr) vectors.assign(study.vectors.begin(), study.vectors.end());
    std::vector<double> values = study.values;
    for (double& value : values) value = std::max(value, 0.0) + floor;
    klt::EncodedBasis encoded =
        klt::encode_basis(std::move(vectors), values, n, static_cast<double>(study.rows));

    if (kept == nullptr && n >= kTrimFrom) trim_heap();

    ByteWriter out;
    out.u8(kKlt);
    out.varint(n);
    out.bytes(encoded.bytes);
    return ColumnTransform{std::move(encoded.basis), out.take()};
}

void write_no_transform(ByteWriter& out) {
    out.u8(kNone);
}

std::optional<klt::Basis> read_column_transform(ByteReader& in, std::size_t tensors, std::size_t elements,
                                                std::size_t chunk_elements) {
    const unsigned kind = in.u8("transform");
    if (kind == kNone) return {};
    if (kind != kKlt) in.fail("transform", "is of the unknown kind " + std::to_string(kind));
    if (tensors != 1) in.fail("transform", "belongs to a record of several tensors");
    const auto n = static_cast<std::size_t>(in.varint("columns of the transform", klt::kMaxColumns));
    if (n < klt::kMinColumns) in.fail("columns of the transform", "are fewer than 2");
    if (elements % n != 0 || chunk_elements % n != 0)
        in.fail("columns of the transform", "do not divide the tensor and its chunks");
    if (elements / n < n) in.fail("columns of the transform", "are more than the rows");
    return klt::decode_basis(in, n);
}

void undo_column_transform(const klt::Basis& basis, std::span<float> coefficients, DType dtype,
                           std::span<std::uint8_t> out) {
    constexpr float kLargest = std::numeric_limits<float>::max();
    const std::size_t n = basis.columns();
    if (coefficients.size() % n != 0) throw DecodeError("a chunk ends within a row of the transform");
    thread_local std::vector<float> numbers;
    const std::size_t width = number_format(static_cast<std::uint8_t>(dtype)).bytes;
    for (std::size_t at = 0; at < coefficients.size(); at += 16 * n) {
        const std::size_t count = std::min(16 * n, coefficients.size() - at);
        numbers.resize(count);
        basis.inverse(coefficients.subspan(at, count), numbers);
        for (float& x : numbers) {  // what is not a number becomes the largest one
            x = x < kLargest ? x : kLargest;
            x = x > -kLargest ? x : -kLargest;
        }
        if (dtype == DType::float32) {
            std::memcpy(out.data() + at * width, numbers.data(), count * width);
            continue;
        }
        for (std::size_t i = 0; i < count; ++i) {
            const std::uint64_t bits = round_to(dtype, static_cast<double>(numbers[i]));
            std::memcpy(out.data() + (at + i) * width, &bits, width);
        }
    }
}

}  // namespace nncodec
