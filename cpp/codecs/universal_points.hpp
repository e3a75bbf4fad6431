// Lattice points and symbols through a binary coder, in both directions. Bytes: docs/format.md#universal
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <span>

#include "entropy/context_mixing.hpp"
#include "quantize/lattice.hpp"

namespace nncodec::universal {

// Where survivor j lies in the chunk; beyond the last, places of their own after the chunk's elements.
class Places {
  public:
    Places(std::size_t elements, bool masked, std::span<const std::uint32_t> positions) noexcept
        : elements_(elements), masked_(masked), positions_(positions) {}

    std::size_t count() const noexcept { return masked_ ? positions_.size() : elements_; }
    std::size_t operator[](std::size_t j) const noexcept {
        if (j >= count()) return elements_ + (j - count());
        return masked_ ? positions_[j] : j;
    }

  private:
    std::size_t elements_;
    bool masked_;
    std::span<const std::uint32_t> positions_;
};

// The bits that choose a coset: each by its number, whether one before it was 1, and how busy the last vector
// was.
template <typename Coder>
class Cosets {
  public:
    explicit Cosets(Coder& coder) noexcept : coder_(coder) {}

    std::uint32_t code(std::uint32_t coset, unsigned bits, unsigned activity) {
        std::uint32_t result = 0;
        for (unsigned i = 0; i < bits; ++i) {
            mixing::Counter& counter = counters_[i][result != 0][activity];
            const bool bit = coder_.code((coset >> i) & 1, counter.p());
            counter.update(bit, mixing::Counter::kLimit);
            result |= static_cast<std::uint32_t>(bit) << i;
        }
        return result;
    }

  private:
    Coder& coder_;
    std::array<std::array<std::array<mixing::Counter, 3>, 2>, 13> counters_;
};

// All points of a chunk. Encoders give them, decoders get them; false when the stream broke off.
template <typename Coder>
bool code_points(Coder& coder, lattice::Lattice lattice, const mixing::Layout& layout, std::size_t elements,
                 const Places& places, std::span<double> points) {
    const std::size_t n = lattice::dimension(lattice);
    mixing::Integers integers(coder, elements + lattice::kMaxDimension, layout);
    Cosets cosets(coder);
    unsigned activity = 0;
    for (std::size_t first = 0; first < points.size(); first += n) {
        const std::span<double> point = points.subspan(first, n);
        const lattice::Code code = lattice::code_of(lattice, point);
        const std::uint32_t coset = cosets.code(code.coset, lattice::coset_bits(lattice), activity);
        lattice::Axes axes(lattice, coset);
        std::int64_t largest = 0;
        for (std::size_t i = 0; i < n; ++i) {
            const unsigned kind = axes.kind();
            const std::int32_t integer = integers.integer(places[first + i], kind, code.integer[i]);
            axes.take(integer);
            const std::int64_t quarter = lattice::quarters(kind, integer);
            largest = std::max(largest, quarter < 0 ? -quarter : quarter);
            point[i] = lattice::coordinate(lattice, kind, integer);
        }
        activity = largest == 0 ? 0 : largest <= 4 ? 1 : 2;
        if (coder.status() != Status::ok) return false;
    }
    return true;
}

// Rows of a table, as their distance from the row `origin`.
template <typename Coder>
bool code_rows(Coder& coder, const mixing::Layout& layout, std::size_t elements, const Places& places,
               std::size_t dimension, std::uint32_t origin, std::span<std::uint32_t> rows) {
    mixing::Integers integers(coder, elements + lattice::kMaxDimension, layout);
    for (std::size_t v = 0; v < rows.size(); ++v) {
        const auto distance = static_cast<std::int32_t>(rows[v] - origin);
        const std::int32_t coded = integers.integer(places[v * dimension], 0, distance);
        rows[v] = static_cast<std::uint32_t>(coded) + origin;  // the reader checks it against the table
        if (coder.status() != Status::ok) return false;
    }
    return true;
}

}  // namespace nncodec::universal
