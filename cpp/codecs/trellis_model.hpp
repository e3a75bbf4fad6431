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
#include "codecs/trellis_layout.hpp"
#include "entropy/rans.hpp"
#include "quantize/class_order.hpp"
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

// What each sum 0 .. 255 becomes.
using SumMap = class_order::Map;

enum class Kernels : std::uint8_t { plain, basis, cosines };

// One tensor as a matrix of rows x (columns x positions), in the order of coding.
struct TensorSide {
    std::size_t elements = 0;
    Layout layout;
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

    // The sums that make classes, of `out.size()` elements from `first` on; and what a map makes of them.
    void sums(std::size_t first, std::span<std::uint8_t> out) const;
    void classes(std::size_t first, std::span<std::uint8_t> out, const SumMap& map) const;
    // Multiplies by the elements' steps, or divides.
    void multiply_steps(std::size_t first, std::span<float> values) const;
    void divide_steps(std::size_t first, std::span<float> values) const;

  private:
    template <typename OfOne, typename OfRow>
    void visit_sums(std::size_t first, std::span<std::uint8_t> out, OfOne of_one, OfRow of_row) const;
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
    bool integers = false;             // decoders multiply with the basis in integers
    Bytes basis_bytes;                 // as written, for encoders
    std::vector<std::uint8_t> bounds;  // first sum of classes 1, 2, ...
    bool parametric = true;
    std::vector<trellis::Parameters> parameters;      // per class, if parametric
    std::vector<rans::Frequencies> tables;            // 2 per class
    std::vector<std::vector<std::int8_t>> centroids;  // per class: c_1, c_2, ...

    std::size_t classes() const noexcept { return bounds.size() + 1; }
    std::size_t elements() const noexcept;
    // Elements that lanes hold whole, in order 1; 0: lanes are interleaved.
    std::size_t unit() const noexcept { return by_columns ? tensors[0].row_elements() : 0; }
    // Whether the tensor's coefficients stay integers until they are transformed.
    bool has_integers(const TensorSide& tensor) const noexcept {
        return integers && basis && (basis_of_columns || tensor.kernels == Kernels::basis);
    }
    bool has_large() const noexcept;  // whether raw bits precede the stream
    bool has_huge() const noexcept;   // whether points may not fit 16 bits
    // Whether `count` tables (0: all) from the first on have such symbols.
    bool has_symbols(bool (*kind)(unsigned), std::size_t first = 0, std::size_t count = 0) const noexcept;
    // Class of each sum 0 .. 255.
    SumMap class_of_sum() const noexcept;
    // Reconstruction point in 1/256 step.
    int point(std::size_t class_index, unsigned union_index, int level) const noexcept;

    // What makes classes, and classes, of elements of the record.
    void sums_of(std::size_t first, std::span<std::uint8_t> out) const;
    void classes_of(std::size_t first, std::span<std::uint8_t> out) const;

    bool has_layouts() const noexcept;
    unsigned version() const noexcept { return has_layouts() ? 2 : 1; }  // of the payload
    Bytes write() const;
};

// Untrusted: throws DecodeError. `shapes` as tensors are stored.
Model read_model(ByteView bytes, std::span<const Shape> shapes, std::size_t chunk_elements, unsigned version);

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

// Order 1: lanes are contiguous pieces of whole rows, each transposed.
class Transposed {
  public:
    Transposed(const Model& model, std::size_t n)
        : n_(n), row_elements_(model.unit()), piece_(trellis::piece_of(n, model.lanes, row_elements_)) {}

    template <typename T>
    void to_coding(std::span<const T> from, std::span<T> to) const {
        T* out = to.data();
        for_each([&](std::size_t i, std::size_t) { *out++ = from[i]; });
    }
    template <typename T>
    void from_coding(std::span<const T> from, std::span<T> to) const {
        const T* in = from.data();
        for_each([&](std::size_t i, std::size_t) { to[i] = *in++; });
    }

    // visit(element, lane), in the order of coding, lane after lane.
    template <typename Visit>
    void for_each(Visit visit) const {
        std::size_t lane = 0;
        for (std::size_t begin = 0; begin < n_; begin += piece_, ++lane) {
            const std::size_t rows = std::min(piece_, n_ - begin) / row_elements_;
            for (std::size_t c = 0; c < row_elements_; ++c) {
                for (std::size_t r = 0; r < rows; ++r) visit(begin + r * row_elements_ + c, lane);
            }
        }
    }

  private:
    std::size_t n_, row_elements_, piece_;
};

}  // namespace nncodec::trellis_codec
