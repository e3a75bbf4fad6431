// What decoder and encoder of the trellis codec know about a record beside its levels: classes, steps,
// tables, transforms, and their bytes. Bytes: docs/format.md#model
//
// What surprises: a weight's class is a sum of small logarithms (of its row, column, place in the kernel)
// that only picks a table; a step is a sum of the same kind that multiplies the value. Both sums are over one
// tensor; tables are shared by all tensors of the record.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "base/bytes.hpp"
#include "entropy/rans.hpp"
#include "quantize/trellis.hpp"
#include "quantize/trellis_tables.hpp"
#include "transform/dct.hpp"
#include "transform/klt.hpp"

namespace nncodec::trellis_codec {

using Shape = std::vector<std::size_t>;

inline constexpr std::size_t kMaxClasses = 64;
inline constexpr std::size_t kMaxCentroids = 16;
inline constexpr int kMaxStepExponent = 240;  // in eighths of an octave
inline constexpr float kLeastStep = 0x1p-80F;
inline constexpr float kGreatestStep = 0x1p80F;

enum class Kernels : std::uint8_t { plain, basis, cosines };

// One tensor as a matrix of rows x (columns x positions).
struct TensorSide {
    std::size_t elements = 0;
    unsigned row_dimensions = 0;     // a: the dimensions that make up rows
    unsigned column_dimensions = 0;  // b: those before positions
    std::size_t rows = 1;
    std::size_t columns = 1;
    std::size_t positions = 1;
    std::uint8_t offset = 0;
    std::array<std::vector<std::int16_t>, 3> scales;  // of rows, columns, positions; empty: none
    std::array<std::uint8_t, 3> units{};              // log2 of what scales are multiples of
    std::optional<std::int8_t> step;
    std::vector<std::int8_t> row_steps;  // empty: none
    std::vector<std::int8_t> column_steps;
    Kernels kernels = Kernels::plain;
    std::size_t kernel_height = 1;
    std::size_t kernel_width = 1;

    std::size_t row_elements() const noexcept { return columns * positions; }
    std::size_t kernel() const noexcept { return kernel_height * kernel_width; }
    bool has_scales() const noexcept;
    bool has_steps() const noexcept { return step || !row_steps.empty() || !column_steps.empty(); }
    bool has_split() const noexcept { return has_scales() || !row_steps.empty() || !column_steps.empty(); }
    // Rows, columns and positions of a shape; a <= b <= dimensions.
    void set_split(std::span<const std::size_t> shape, unsigned a, unsigned b) noexcept;
    void set_kernel(std::span<const std::size_t> shape) noexcept;

    // The sums that make classes, of `out.size()` elements from `first` on.
    void sums(std::size_t first, std::span<std::uint8_t> out) const;
    // Multiplies by the elements' steps, or divides.
    void multiply_steps(std::size_t first, std::span<float> values) const;
    void divide_steps(std::size_t first, std::span<float> values) const;
};

// 2^(eighths / 8); at most kMaxStepExponent in size.
float step_factor(int eighths) noexcept;

struct Model {
    float step = 1;
    trellis::Code code = trellis::kCodes[0];
    trellis::Alphabet alphabet = trellis::Alphabet::plain;
    bool by_columns = false;  // order 1
    unsigned lanes = 1;
    std::vector<TensorSide> tensors;
    std::optional<klt::Basis> basis;  // of columns or kernels
    bool basis_of_columns = false;
    Bytes basis_bytes;                 // as written, for encoders
    std::vector<std::uint8_t> bounds;  // first sum of classes 1, 2, ...
    bool parametric = true;
    std::vector<trellis::Parameters> parameters;      // per class, if parametric
    std::vector<rans::Frequencies> tables;            // 2 per class
    std::vector<std::vector<std::int8_t>> centroids;  // per class: c_1, c_2, ...

    std::size_t classes() const noexcept { return bounds.size() + 1; }
    std::size_t elements() const noexcept;
    // Elements that lanes hold whole.
    std::size_t unit() const noexcept { return by_columns ? tensors[0].row_elements() : 1; }
    bool has_large() const noexcept;  // whether raw bits precede the stream
    // Class of each sum 0 .. 255.
    std::array<std::uint8_t, 256> class_of_sum() const noexcept;
    // Reconstruction point in 1/256 step.
    int point(std::size_t class_index, unsigned union_index, int level) const noexcept;

    // What makes classes, and classes, of elements of the record.
    void sums_of(std::size_t first, std::span<std::uint8_t> out) const;
    void classes_of(std::size_t first, std::span<std::uint8_t> out) const;

    Bytes write() const;
};

// Untrusted: throws DecodeError.
Model read_model(ByteView bytes, std::span<const Shape> shapes, std::size_t chunk_elements);

// Makes tables of parameters.
void make_tables(Model& model);

// Calls visit(tensor, first element in it, offset in the range, count) for the parts of a range of the
// record.
template <typename Tensors, typename Visit>
void for_each_part(Tensors& tensors, std::size_t first, std::size_t n, Visit visit) {
    std::size_t begin = 0;
    for (auto& tensor : tensors) {
        const std::size_t end = begin + tensor.elements;
        if (end > first && begin < first + n) {
            const std::size_t from = std::max(begin, first);
            visit(tensor, from - begin, from - first, std::min(end, first + n) - from);
        }
        begin = end;
    }
}

// Order 1: lanes of whole rows, transposed. `to` gets the coding order of `from`, or the reverse.
template <typename T>
void to_coding_order(std::span<const T> from, std::size_t row_elements, std::size_t piece, std::span<T> to) {
    for (std::size_t begin = 0; begin < from.size(); begin += piece) {
        const std::size_t rows = std::min(piece, from.size() - begin) / row_elements;
        T* out = to.data() + begin;
        for (std::size_t c = 0; c < row_elements; ++c) {
            for (std::size_t r = 0; r < rows; ++r) *out++ = from[begin + r * row_elements + c];
        }
    }
}

template <typename T>
void from_coding_order(std::span<const T> from, std::size_t row_elements, std::size_t piece,
                       std::span<T> to) {
    for (std::size_t begin = 0; begin < from.size(); begin += piece) {
        const std::size_t rows = std::min(piece, from.size() - begin) / row_elements;
        const T* in = from.data() + begin;
        for (std::size_t c = 0; c < row_elements; ++c) {
            for (std::size_t r = 0; r < rows; ++r) to[begin + r * row_elements + c] = *in++;
        }
    }
}

}  // namespace nncodec::trellis_codec
