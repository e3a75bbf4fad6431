// What a tensor will cost with these scales and this transform, before any path is searched.
#pragma once

#include <span>

#include "codecs/trellis_model.hpp"

namespace nncodec::trellis_codec {

// Bits of the elements and scales at the tensor's present offset, and the squared error in bits: what that
// many would make it smaller by. Elements over their scales have the distribution that a sample of them
// shows, so that scales which tell nothing are seen to be no better than one tail for all. `values`: after
// transforms. `share`: of the elements that have the same classes.
double estimated_cost(const TensorSide& tensor, std::span<const float> values, double step, double share);

}  // namespace nncodec::trellis_codec
