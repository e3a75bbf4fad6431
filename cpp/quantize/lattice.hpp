// Lattices: nearest points, dither that is uniform over a Voronoi cell, and points as integers to code.
// Bytes and arithmetic: docs/format.md#lattices
//
// What surprises: points are in a lattice's natural coordinates, in which they are integers or halves and the
// metric may weigh axes differently; natural_scale() leads from there to cells of volume 1. All sums are
// taken in a fixed order in binary64, so that encoder and decoder agree on every dither on every machine.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

namespace nncodec::lattice {

enum class Lattice : std::uint8_t { z = 0, a2 = 1, d4 = 2, e8 = 3, leech = 4 };
inline constexpr unsigned kLattices = 5;
inline constexpr std::size_t kMaxDimension = 24;

constexpr std::size_t dimension(Lattice lattice) noexcept {
    constexpr std::array<std::uint8_t, kLattices> of{1, 2, 4, 8, 24};
    return of[static_cast<std::size_t>(lattice)];
}

// What coordinate `axis` of a point is multiplied with so that cells have volume 1.
double natural_scale(Lattice lattice, std::size_t axis) noexcept;

// The nearest point of each vector; x.size() == points.size(), a multiple of the dimension, and no magnitude
// above 2^32. Ties go to the candidate that the text of the format names first.
void nearest(Lattice lattice, std::span<const double> x, std::span<double> points);

// Dither of the vectors first, first + 1, ... : a function of key and vector number alone, uniform over the
// Voronoi cell of the origin but for its grain of 2^-20.
void dither(Lattice lattice, std::uint64_t key, std::uint64_t first, std::span<double> out);

// The counter-based generator below dither: bits that a counter gives under a key.
std::uint64_t random_bits(std::uint64_t key, std::uint64_t counter) noexcept;

// A point as the bits that choose a coset of a cubic lattice, and an integer per axis.
struct Code {
    std::uint32_t coset = 0;  // coset_bits() bits
    std::array<std::int32_t, kMaxDimension> integer{};
};

constexpr unsigned coset_bits(Lattice lattice) noexcept {
    constexpr std::array<std::uint8_t, kLattices> of{0, 1, 1, 1, 13};
    return of[static_cast<std::size_t>(lattice)];
}

// Where on an axis the integers of a code lie: coordinate = unit * (stride * integer + add) / 4, stride 4
// or 8. One byte says both: kinds 0 .. 3 are stride 4 and add = kind, 4 .. 11 stride 8 and add = kind - 4.
inline constexpr unsigned kKinds = 12;
constexpr std::int64_t quarters(unsigned kind, std::int64_t integer) noexcept {
    return kind < 4 ? 4 * integer + kind : 8 * integer + (kind - 4);
}

// Walks through the axes of a point in order, for both directions: kind() of the next axis follows from the
// coset and the integers before it.
class Axes {
  public:
    Axes(Lattice lattice, std::uint32_t coset) noexcept;
    unsigned kind() const noexcept;
    // Goes on to the next axis.
    void take(std::int64_t integer) noexcept;

  private:
    Lattice lattice_;
    std::uint32_t coset_;
    std::uint32_t word_ = 0;  // Leech: the codeword of the coset, bit i for axis i
    std::size_t axis_ = 0;
    unsigned parity_ = 0;
};

// `point` must be one of the lattice, of magnitudes below 2^32.
Code code_of(Lattice lattice, std::span<const double> point) noexcept;
// The coordinate that a kind and an integer stand for.
double coordinate(Lattice lattice, unsigned kind, std::int64_t integer) noexcept;

// The 24-bit Golay codeword with these 12 bits; every word has one. Bit 4 c + r is row r of column c of the
// miracle octad generator.
std::uint32_t golay_word(std::uint32_t bits) noexcept;

}  // namespace nncodec::lattice
