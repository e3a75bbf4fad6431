// The inverse of a Karhunen-Loeve transform in 16-bit integers, for decoders: several times as many products
// per instruction as in floats. Bytes and numbers: docs/format.md#column-transform-in-integers
//
// What surprises: sums are modulo 2^32, so no order of addition matters, and all machines agree by
// construction. Encoders take it only where nothing can run over.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "transform/klt.hpp"

namespace nncodec::klt {

inline constexpr unsigned kBasisBits = 14;  // entries are in units of 2^-14

class IntegerBasis {
  public:
    explicit IntegerBasis(const Basis& basis);

    std::size_t columns() const noexcept { return n_; }
    // numbers[r][j] = float(sum over k of coefficients[r][k] * entry[k][j] modulo 2^32) * unit. Both arrays
    // are whole rows of columns().
    void inverse(std::span<const std::int16_t> coefficients, float unit, std::span<float> numbers) const;

  private:
    std::size_t n_ = 0;
    std::size_t pairs_ = 0;              // half of the columns, rounded up
    std::vector<std::int16_t> entries_;  // see integer_entry_at; zeros beyond
};

}  // namespace nncodec::klt
