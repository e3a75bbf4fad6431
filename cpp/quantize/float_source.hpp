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

namespace nncodec {

bool is_quantisable(DType dtype) noexcept;

// The bits of `value` (finite) rounded to `dtype`, in the low bytes of the result.
std::uint64_t round_to(DType dtype, double value) noexcept;

class FloatSource {
  public:
    // Throws ArgumentError when the type is none of the four or the size no multiple of the element's.
    FloatSource(DType dtype, ByteView data);

    std::size_t size() const noexcept { return size_; }
    DType dtype() const noexcept { return dtype_; }
    // out.size() numbers from `first` on; the caller stays within size().
    void load(std::size_t first, std::span<double> out) const noexcept;

  private:
    DType dtype_;
    ByteView data_;
    std::size_t size_;
};

struct FloatStatistics {
    double energy = 0;            // sum of weight * x^2
    double largest = 0;           // largest magnitude
    std::uint64_t nonfinite = 0;  // NaN and infinities; the other members ignore them
};

// The same figures for any number of threads. `importance`: one weight per number, or empty for all 1.
FloatStatistics float_statistics(const FloatSource& source, std::span<const float> importance,
                                 std::size_t threads);

}  // namespace nncodec
