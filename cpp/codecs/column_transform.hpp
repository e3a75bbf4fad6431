// A record's transform of the columns: whether there is one, chosen by encoders, undone by decoders. Bytes:
// docs/format.md#column-transform
//
// What surprises: coefficients are float32 whatever the tensor's type, and so are the sums that undo it.
#pragma once

#include <mutex>
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
    Bytes bytes;  // the kind and what it needs, as read_column_transform reads it
};

// What fitting a transform to a tensor needs and no step changes: kept from one step to the next, it saves
// most of the time. Filled by the first that asks; one fit at a time.
struct ColumnStudy {
    std::mutex mutex;
    std::optional<klt::Moments> moments;  // until there are vectors: one matrix at a time is kept
    std::size_t rows = 0;                 // of the moments, and their matrix's diagonal
    std::vector<double> diagonal;
    std::vector<double> values;    // of the matrix; empty until they are needed
    std::vector<float> vectors;    // far finer than a basis is coded
    bool without_vectors = false;  // their search did not end
};

// Whether a study takes little memory beside its tensor.
bool worth_a_study(const scales::View& view, std::size_t element_bytes) noexcept;

// The Karhunen-Loeve transform of a tensor quantised with this step; nothing where it is impossible, or, for
// `automatic`, where the estimate says that it cannot pay. The caller compares real costs. `kept` is used
// and filled; null: memory is given back before the basis is coded.
std::optional<ColumnTransform> fit_column_transform(const FloatSource& source, const scales::View& view,
                                                    double step, const FloatStatistics& statistics,
                                                    TransformChoice choice, ColumnStudy* kept,
                                                    std::size_t threads);

void write_no_transform(ByteWriter& out);

// Untrusted: throws DecodeError. `elements` and `tensors`: of the record. Nothing for kind 0.
std::optional<klt::Basis> read_column_transform(ByteReader& in, std::size_t tensors, std::size_t elements,
                                                std::size_t chunk_elements);

// Whole rows of coefficients (overwritten by numbers) to numbers of `dtype`.
void undo_column_transform(const klt::Basis& basis, std::span<float> coefficients, DType dtype,
                           std::span<std::uint8_t> out);

}  // namespace nncodec
