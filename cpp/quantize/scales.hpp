// Scale classes: a tensor seen as a matrix, a logarithmic scale for each row and each column, and so for each
// weight a class, context = row scale + column scale. Bytes: docs/format.md#scale-classes
//
// What surprises: scales are stored as indices whose unit only the encoder knows (a third of an octave). They
// choose entropy tables and never multiply a weight, so their precision decides bits, not values; and a
// decoder needs no floating point to use them.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "base/bytes.hpp"
#include "entropy/rans.hpp"
#include "quantize/float_source.hpp"

namespace nncodec::scales {

inline constexpr std::size_t kMaxContexts = 64;
inline constexpr std::size_t kMaxRowElements = std::size_t{1} << 20;

// Element e of a tensor lies in row e / (columns * repeat), column (e / repeat) % columns. A convolution (O,
// I, h, w) is O rows, I columns, repeat h * w. columns == 0: flat, one class.
struct View {
    std::size_t rows = 0;
    std::size_t columns = 0;
    std::size_t repeat = 1;

    std::size_t row_elements() const noexcept { return columns * repeat; }
    bool flat() const noexcept { return columns == 0; }
};

// Indices of one tensor; both empty for a flat view. The largest row index plus the largest column index is
// below kMaxContexts.
struct Scales {
    std::vector<std::uint8_t> row;
    std::vector<std::uint8_t> column;
    std::int64_t base = INT64_MIN;  // encoder only: absolute scale of context 0, INT64_MIN if all is zero
};

enum class Axes : std::uint8_t { none = 0, rows = 1, columns = 2, both = 3 };

// The view of a tensor of this shape that suits classes: the first dimension in rows, the second in columns;
// one row and column for fewer dimensions. Flat if it has no elements, or rows that are too long.
View matrix_view(std::span<const std::size_t> shape) noexcept;

// Fits row and column scales alternately to mean |x|, for the tensor at [first, first + rows *
// row_elements()) of `source`. An axis that is not asked for gets index 0 throughout. The same for any number
// of threads, on any machine.
Scales fit(const FloatSource& source, std::size_t first, const View& view, Axes axes, std::size_t threads);

// Several tensors that share tables must share the unit and the origin of their classes: shifts row indices
// so that equal contexts mean equal scales.
void align(std::span<Scales> scales);

// Makes a view without classes flat, which is how it is written.
void drop_if_constant(View& view, Scales& scales) noexcept;

// log2(value) in units of 2^-16, rounded down; `value` positive, finite, normal. Integer arithmetic.
std::int64_t fixed_log2(double value) noexcept;

// One tensor's classes. `elements` is the tensor's size; read_scales checks everything against it.
void write_scales(ByteWriter& out, const View& view, const Scales& scales);
void read_scales(ByteReader& in, std::size_t elements, View& view, Scales& scales);

// The contexts of a record's elements, for the entropy coder. A record of one tensor keeps its rows and
// columns; one of several is cut into short rows of constant context.
class ContextMap {
  public:
    // chunk_elements must be a multiple of row_length() unless there are no contexts.
    static ContextMap make(std::span<const View> views, std::span<const Scales> scales,
                           std::span<const std::size_t> sizes);

    std::size_t contexts() const noexcept { return contexts_; }  // at least 1
    bool uniform() const noexcept { return row_.empty() && column_.empty(); }
    std::size_t row_length() const noexcept { return row_length_; }  // 1 if uniform
    // `first` is a multiple of row_length(), or anything if uniform.
    rans::Layout layout(std::size_t first, std::size_t n) const noexcept;

  private:
    std::size_t contexts_ = 1;
    std::size_t row_length_ = 1;
    std::vector<std::uint8_t> row_;
    std::vector<std::uint8_t> column_;
};

}  // namespace nncodec::scales
