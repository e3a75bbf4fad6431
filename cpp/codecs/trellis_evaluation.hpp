// What coding a tensor with some scales will cost: what an encoder of the trellis codec compares.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <utility>
#include <vector>

#include "codecs/trellis_model.hpp"
#include "codecs/trellis_scales.hpp"
#include "quantize/float_source.hpp"

namespace nncodec::trellis_codec {

// A part's numbers, tensor by tensor.
class Numbers {
  public:
    Numbers(const FloatSource& source, std::span<const TensorSide> tensors);
    std::span<const float> operator[](std::size_t tensor) const { return of_[tensor]; }

  private:
    std::vector<float> loaded_;  // where the source has none to look at
    std::vector<std::span<const float>> of_;
};

struct Candidate {
    TensorSide side;
    std::int64_t base = kNoScale;
    double cost = 0;  // bits, and error in bits
};

// Judges scales of a tensor's numbers at a step. `share`: the tensor's elements over the record's.
class Evaluation {
  public:
    Evaluation(bool classes, double step, double share, std::size_t threads) noexcept
        : classes_(classes), step_(step), share_(share), threads_(threads) {}

    Candidate with_all_axes(const TensorSide& side, std::span<const float> values) const;
    // With dimensions of rows, and of rows and columns, of tensors whose channels come last, where that is
    // cheaper: (output, height, width, input) and (height, width, input, output).
    void try_other_splits(const Shape& shape, std::span<const float> values, Candidate& best) const;
    // With those of fewer axes, where that is cheaper.
    void try_fewer_axes(std::span<const float> values, Candidate& best) const;

  private:
    bool can_have_scales(const TensorSide& side) const noexcept;
    Candidate with_axes(const TensorSide& side, std::span<const float> values, const Axes& axes) const;

    bool classes_;
    double step_;
    double share_;
    std::size_t threads_;
};

}  // namespace nncodec::trellis_codec
