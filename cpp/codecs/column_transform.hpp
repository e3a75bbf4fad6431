// A record's transform of the columns: whether there is one, chosen and applied by encoders, undone by
// decoders. Bytes: docs/format.md#column-transform
//
// What surprises: coefficients are float32 whatever the tensor's type, and so are the sums that undo it.
#pragma once

#include <optional>
#include <span>
#include <vector>

#include "base/bytes.hpp"
#include "quantize/float_source.hpp"
#include "quantize/scales.hpp"
#include "transform/klt.hpp"

namespace nncodec {

enum class TransformChoice : std::uint8_t { none, automatic, klt };  // klt: wherever it is possible

struct ColumnTransform {
    klt::Basis basis;
    Bytes bytes;         // the kind and what it needs, as read_column_transform reads it
    Bytes coefficients;  // float32
};

// The Karhunen-Loeve transform of a tensor quantised with this step; nothing where it is impossible, or, for
// `automatic`, where the estimate says that it cannot pay. The caller compares real costs.
std::optional<ColumnTransform> fit_column_transform(const FloatSource& source, const scales::View& view,
                                                    double step, const FloatStatistics& statistics,
                                                    TransformChoice choice, std::size_t threads);

void write_no_transform(ByteWriter& out);

// Untrusted: throws DecodeError. `elements` and `tensors`: of the record. Nothing for kind 0.
std::optional<klt::Basis> read_column_transform(ByteReader& in, std::size_t tensors, std::size_t elements,
                                                std::size_t chunk_elements);

// Whole rows of coefficients (overwritten by numbers) to numbers of `dtype`.
void undo_column_transform(const klt::Basis& basis, std::span<float> coefficients, DType dtype,
                           std::span<std::uint8_t> out);

}  // namespace nncodec
