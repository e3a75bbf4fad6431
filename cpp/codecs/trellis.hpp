// Codec 3, `trellis`: transform, trellis quantiser, class per weight, static tables per class and union, rANS
// with a trellis per lane. Bytes: docs/format.md#trellis
//
// What surprises: an encoder studies a part once (transform, scales, a sample of the coefficients), tries
// steps on the sample, and only then searches all paths, once; a plan holds their symbols, a byte a weight.
// Paths, tables and statistics of a chunk do not depend on threads.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/dtype.hpp"
#include "codecs/chunk_decoder.hpp"
#include "codecs/trellis_model.hpp"
#include "entropy/rans_trellis.hpp"
#include "transform/klt_integer.hpp"

namespace nncodec {

using Shape = trellis_codec::Shape;

enum class TrellisAlphabet : std::uint8_t { automatic, plain, both_zero };

struct TrellisOptions {
    unsigned states = 256;
    TrellisAlphabet alphabet = TrellisAlphabet::automatic;
    bool transform = true;
    bool layouts = true;
    bool classes = true;
    bool centroids = true;
    double strength = 1;  // the usual is 1: more makes bits dearer and the grid finer, at the same slope
    std::size_t sample = std::size_t{1} << 18;  // about as many elements are looked at to find tables
};

struct TrellisInput {
    DType dtype{};
    ByteView data;
    std::vector<Shape> shapes;
    std::span<const float> importance;  // empty, or one per element
    std::string name;                   // for error messages
};

struct TrellisTrial {
    double bits = 0;
    double squared_error = 0;
};

namespace trellis_codec {
class Study;
struct Search;
}  // namespace trellis_codec

// What is decided before the step is: made at a step near the final one, good for any.
class TrellisStudy {
  public:
    // Throws ArgumentError for NaN or infinite elements, a step out of range, importance that does not fit.
    // `input.data` and `input.importance` must outlive the study.
    TrellisStudy(const TrellisInput& input, const TrellisOptions& options, double step, std::size_t threads);

    // Size (model included) and weighted squared error at a step, from a sample of large parts. A trial
    // begins with the tables of one nearby; a plan at a step that was tried makes the paths that the trial
    // made.
    TrellisTrial trial(double step, std::size_t threads);

    const trellis_codec::Study& inside() const noexcept { return *study_; }

    // How paths are to be searched at this step.
    std::shared_ptr<const trellis_codec::Search> search_at(double step, std::size_t threads) const;

  private:
    std::shared_ptr<const trellis_codec::Study> study_;
    struct Start {
        const trellis_codec::Search* from;
        int rounds;
        bool is_anchor;  // others may begin here
    };
    Start start_of(double step) const;

    std::vector<std::pair<double, std::shared_ptr<const trellis_codec::Search>>> anchors_;
    std::map<double, std::shared_ptr<trellis_codec::Search>> tried_;
    std::shared_ptr<trellis_codec::Search> last_;  // the only one of those that keeps its path
};

class TrellisPlan {
  public:
    // Searches all paths.
    TrellisPlan(const TrellisStudy& study, double step, std::size_t threads);
    // Codes levels that were chosen elsewhere: of one tensor with the given step, order and steps (see
    // docs/format.md#side-information-of-a-trellis-record), in row-major order; centroids are 0.
    struct Given {
        DType dtype{};
        Shape shape;
        std::span<const std::int16_t> levels;
        float step = 1;
        unsigned states = 256;
        trellis::Alphabet alphabet = trellis::Alphabet::plain;
        bool by_columns = true;
        unsigned row_dimensions = 1;
        unsigned lanes = 32;
        std::size_t chunk_elements = 0;
        std::vector<std::int8_t> row_steps;
        std::vector<std::int8_t> column_steps;
    };
    explicit TrellisPlan(const Given& given, std::size_t threads);

    std::size_t elements() const noexcept { return symbols_.size(); }
    std::size_t chunk_elements() const noexcept { return chunk_elements_; }
    std::size_t chunks() const noexcept { return (elements() + chunk_elements_ - 1) / chunk_elements_; }
    const Bytes& model() const noexcept { return model_bytes_; }
    unsigned version() const noexcept { return model_.version(); }
    double bits() const noexcept { return bits_; }
    double squared_error() const noexcept { return squared_error_; }

    Bytes encode_chunk(std::size_t chunk) const;

  private:
    void complete(const trellis_codec::Study& study, double stream_bits, double error, std::size_t threads);
    void finish(double stream_bits);
    double exact_error(const trellis_codec::Study& study, std::size_t threads) const;

    std::vector<Shape> shapes_;
    std::size_t chunk_elements_ = 1;
    trellis_codec::Model model_;
    Bytes model_bytes_;
    std::vector<std::uint8_t> symbols_;  // of each chunk, in the order of coding
    std::vector<Bytes> raw_;             // of each chunk
    std::optional<rans::TrellisEncoder> encoder_;
    bool has_large_ = false;
    double bits_ = 0;
    double squared_error_ = 0;
};

class TrellisDecoder final : public ChunkDecoder {
  public:
    // Untrusted: throws DecodeError. `version` is that of the payload, 1 or 2.
    TrellisDecoder(std::uint8_t dtype, std::span<const Shape> shapes, std::size_t chunk_elements,
                   ByteView model, unsigned version);
    void decode(std::size_t chunk, ByteView payload, std::span<std::uint8_t> out) const override;

    const trellis_codec::Model& model() const noexcept { return model_; }

  private:
    void to_numbers(std::size_t first, std::span<const std::int16_t> points, std::span<float> values) const;
    void restore_layouts(std::size_t first, std::span<float> values) const;

    DType dtype_{};
    std::size_t element_bytes_ = 0;
    std::size_t chunk_elements_ = 0;
    trellis_codec::Model model_;
    bool has_large_ = false;
    bool has_huge_ = false;
    std::vector<std::uint8_t> large_classes_;  // those that have large levels
    std::optional<rans::TrellisDecoder> rans_;
    std::optional<klt::IntegerBasis> integers_;
};

}  // namespace nncodec
