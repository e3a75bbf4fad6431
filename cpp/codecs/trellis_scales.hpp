// Scales of rows, columns and positions, as encoders fit them. Nothing here decides what a decoder makes.
#pragma once

#include <cstdint>
#include <span>

#include "codecs/trellis_model.hpp"

namespace nncodec::trellis_codec {

inline constexpr std::int64_t kNoScale = INT64_MIN;  // of zeros
inline constexpr int kSumOfOneStep = 64;             // sum of a class whose mean magnitude is a step

struct Axes {
    bool rows = false;
    bool columns = false;
    bool positions = false;
};

// Fits the scales of these axes alternately to mean |x|. Returns log2 of the mean magnitude where scales are
// 0, in units of 2^-16. The tensor's split must be set. The same for any number of threads.
std::int64_t fit_scales(TensorSide& tensor, std::span<const float> values, const Axes& axes,
                        std::size_t threads);

// The offset at a step, from what fit_scales returned.
std::uint8_t offset_at(std::int64_t base, double step) noexcept;

// About what an element of this sum costs, in bits, if it is one of a Gaussian.
double estimated_bits(std::uint8_t sum) noexcept;

}  // namespace nncodec::trellis_codec
