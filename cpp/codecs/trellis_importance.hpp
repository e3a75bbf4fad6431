// Steps that importance asks for: squared error times weight is then about the same everywhere.
#pragma once

#include <span>

#include "codecs/trellis_model.hpp"

namespace nncodec::trellis_codec {

// In eighths of an octave, of what has this weight where the mean is another.
int step_for(double weight, double mean) noexcept;

// Sets steps of rows and columns, of which the split must be set; lists of nothing but zeros are left empty.
// Returns the mean weight. There must be one for each element, and there must be elements.
double set_row_and_column_steps(TensorSide& side, std::span<const float> weights);

}  // namespace nncodec::trellis_codec
