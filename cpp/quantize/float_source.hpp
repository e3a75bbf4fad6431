// A tensor's numbers as doubles, whatever their element type, and back. Rounding:
// docs/format.md#output-values
//
// float64, float32, float16 and bfloat16 only. Loading is exact. Storing rounds once, to nearest even, and
// clamps to the largest finite value: a reconstruction is never infinite.
#pragma once

#include <cstdint>
#include <span>

#include "base/bytes.hpp"
#include "base/dtype.hpp"
#include "transform/klt.hpp"

namespace nncodec {

bool is_quantisable(DType dtype) noexcept;

// The bits of `value` (finite) rounded to `dtype`, in the low bytes of the result.
std::uint64_t round_to(DType dtype, double value) noexcept;

class FloatSource {
  public:
    // Throws ArgumentError when the type is none of the four or the size no multiple of the element's.
    FloatSource(DType dtype, ByteView data);
    // Coefficients of `numbers`, whole rows of basis.columns() of them, as float32. They are made as they are
    // asked for, some rows at a time on each thread, so that no tensor of them is held. `basis`, which must
    // outlive this, is one that encode_basis made.
    FloatSource(const FloatSource& numbers, const klt::Basis& basis);

    std::size_t size() const noexcept { return size_; }
    DType dtype() const noexcept { return dtype_; }
    ByteView bytes() const noexcept { return data_; }
    // out.size() numbers from `first` on; the caller stays within size().
    void load(std::size_t first, std::span<double> out) const;
    // All numbers where they lie, if they are float32 as this machine reads them; else none.
    std::span<const float> in_place() const noexcept;

  private:
    void load_numbers(std::size_t first, std::span<double> out) const noexcept;
    void load_coefficients(std::size_t first, std::span<double> out) const;

    DType dtype_;
    DType stored_;
    ByteView data_;
    std::size_t size_;
    const klt::Basis* basis_ = nullptr;
    std::uint64_t id_ = 0;  // of this source and its copies among those with a basis
};

// A source's numbers as float32.
void load_floats(const FloatSource& source, std::size_t first, std::span<float> out);

struct FloatStatistics {
    double energy = 0;            // sum of weight * x^2
    double largest = 0;           // largest magnitude
    std::uint64_t nonfinite = 0;  // NaN and infinities; the other members ignore them
};

// The same figures for any number of threads. `importance`: one weight per number, or empty for all 1.
FloatStatistics float_statistics(const FloatSource& source, std::span<const float> importance,
                                 std::size_t threads);

}  // namespace nncodec
