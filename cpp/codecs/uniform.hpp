// Codec 2, `uniform`: uniform quantiser, scale classes, static rANS.
// Bytes: docs/format.md#uniform
//
// What surprises: a plan makes every decision (scales, tables, thresholds, offsets) from statistics and holds
// no levels; each chunk is then quantised again, with the same decisions, when it is coded. So memory stays
// small whatever the tensor's size, and chunks can be coded in any order, on any number of threads.
// Coefficients of a column transform are made anew each time too.
#pragma once

#include <cstdint>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "codecs/chunk_decoder.hpp"
#include "codecs/column_transform.hpp"
#include "quantize/scales.hpp"
#include "quantize/uniform.hpp"

namespace nncodec {

using Shape = std::vector<std::size_t>;

struct UniformOptions {
    bool centroid = true;   // false: levels are reconstructed at step * level
    double strength = 0.8;  // of rate-aware decisions: lambda over that of the high-rate slope; 0 rounds
    bool classes = true;    // false: one table per record
    TransformChoice transform = TransformChoice::automatic;
    std::size_t chunk_multiple = 1;  // chunks hold whole multiples of so many elements
};

struct UniformInput {
    DType dtype{};
    ByteView data;
    std::vector<Shape> shapes;
    double step = 0;
    std::span<const float> importance;  // empty, or one per element
    std::string name;                   // for error messages
    ColumnStudy* study = nullptr;       // of the same tensor at other steps, if it is to be used
};

class UniformPlan {
  public:
    // Throws ArgumentError for NaN or infinite elements, a step that is not positive or too small for the
    // largest element, or importance that does not fit. `input.data` and `input.importance` must outlive the
    // plan.
    UniformPlan(const UniformInput& input, const UniformOptions& options, std::size_t threads);

    std::size_t elements() const noexcept { return source_.size(); }
    std::size_t chunk_elements() const noexcept { return chunk_elements_; }
    std::size_t chunks() const noexcept { return (elements() + chunk_elements_ - 1) / chunk_elements_; }
    const Bytes& model() const noexcept { return model_; }
    // Payload bits, model included (a close estimate), and the (weighted) squared error.
    double bits() const noexcept { return bits_; }
    double squared_error() const noexcept { return squared_error_; }

    Bytes encode_chunk(std::size_t chunk) const;

  private:
    struct Candidate;

    Candidate candidate(scales::Axes axes, std::size_t threads) const;
    Candidate best_classes(std::size_t threads) const;
    Candidate choose_transform(Candidate plain, const FloatStatistics& statistics, ColumnStudy* study,
                               std::size_t threads);
    void dequantise_chunk(const uniform::Dequantiser& dequantiser, std::size_t chunk,
                          std::span<std::uint8_t> out) const;
    uniform::Histogram measure(const scales::ContextMap& map, std::span<const uniform::Thresholds> thresholds,
                               std::size_t threads) const;
    void choose_tables(const uniform::Histogram& histogram);
    void choose_offsets(const uniform::Histogram& histogram, double lambda);
    void finish(const uniform::Histogram& histogram);
    double exact_error(std::size_t threads) const;
    Bytes quantise_chunk(std::size_t chunk, std::vector<std::uint8_t>& tokens) const;
    std::size_t chunk_size(std::size_t chunk) const noexcept;
    void set_chunk_elements(const scales::ContextMap& map) noexcept;

    FloatSource source_;    // what is quantised: the tensor, or its coefficients
    FloatSource original_;  // the tensor
    std::optional<ColumnTransform> transform_;
    std::vector<std::size_t> sizes_;
    std::vector<scales::View> shape_views_;
    std::span<const float> importance_;
    UniformOptions options_;
    double step_ = 0;
    double importance_mean_ = 1;
    std::size_t chunk_elements_ = 1;
    std::vector<scales::View> views_;
    std::vector<scales::Scales> scales_;
    scales::ContextMap map_;
    std::vector<std::uint8_t> table_of_;  // table of each context
    std::vector<rans::Frequencies> tables_;
    std::vector<uniform::Offsets> offsets_;        // per table
    std::vector<uniform::Thresholds> thresholds_;  // per context
    mutable std::once_flag encoder_once_;  // made with the first chunk: budgets try many plans and code one
    mutable std::optional<rans::Encoder> encoder_;
    unsigned lanes_ = 1;
    bool has_extra_ = false;
    Bytes model_;
    double bits_ = 0;
    double squared_error_ = 0;
};

class UniformDecoder final : public ChunkDecoder {
  public:
    // Untrusted: throws DecodeError.
    UniformDecoder(std::uint8_t dtype, std::span<const Shape> shapes, std::size_t chunk_elements,
                   ByteView model);
    void decode(std::size_t chunk, ByteView payload, std::span<std::uint8_t> out) const override;

    double step() const noexcept { return step_; }
    std::size_t contexts() const noexcept { return map_.contexts(); }
    std::size_t tables() const noexcept { return n_tables_; }
    bool transformed() const noexcept { return basis_.has_value(); }

  private:
    double step_ = 0;
    std::size_t element_bytes_ = 0;
    std::size_t chunk_elements_ = 0;
    std::size_t n_tables_ = 1;
    DType dtype_{};
    std::optional<klt::Basis> basis_;
    scales::ContextMap map_;
    std::optional<rans::Decoder> rans_;
    unsigned lanes_ = 1;
    bool has_extra_ = false;
    std::optional<uniform::Dequantiser> dequantiser_;
};

}  // namespace nncodec
