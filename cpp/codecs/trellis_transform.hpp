// Transforms of the trellis codec, forth and back, on parts of a record. Bytes: docs/format.md#output-values
#pragma once

#include <span>

#include "codecs/trellis_model.hpp"

namespace nncodec::trellis_codec {

// Coefficients to numbers, in place: elements first ... of the record, whole rows or kernels.
void undo_transforms(const Model& model, std::size_t first, std::span<float> values);

// Numbers to coefficients, in place. The basis must be one that encode_basis made.
void apply_transforms(const Model& model, std::size_t first, std::span<float> values);

}  // namespace nncodec::trellis_codec
