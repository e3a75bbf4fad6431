// Codec 4, `universal`: dithered lattice quantiser and universal source coding. Bytes:
// docs/format.md#universal
//
// What surprises: chunks of the coders bzip2, DEFLATE and LZMA are packed and unpacked by whoever owns such a
// coder (the bindings): the plan gives raw bytes, the decoder gets a function.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "codecs/chunk_decoder.hpp"
#include "codecs/uniform.hpp"  // Shape
#include "entropy/context_mixing.hpp"
#include "quantize/float_source.hpp"
#include "quantize/lattice.hpp"

namespace nncodec {

namespace universal {

enum class Coder : std::uint8_t { mixing = 0, lzw = 1, deflate = 2, bzip2 = 3, lzma = 4 };
inline constexpr unsigned kCoders = 5;
inline constexpr std::size_t kMaxTable = std::size_t{1} << 16;
inline constexpr std::size_t kMaxTableElements = std::size_t{1} << 20;

enum class Table : std::uint8_t { none = 0, points = 1, values = 2 };

// What all chunks share; what the model says.
struct Model {
    lattice::Lattice lattice = lattice::Lattice::z;
    Coder coder = Coder::mixing;
    Table table = Table::none;
    bool dithered = false;
    bool masked = false;
    double step = 1;
    std::uint16_t shrink = 0;  // values are multiplied with 1 - shrink / 65536
    std::uint64_t key = 0;     // of the dither
    mixing::Layout layout;
    std::size_t dimension = 0;   // elements of a symbol
    std::uint32_t origin = 0;    // row of the table that is coded as 0
    std::vector<double> points;  // natural coordinates, row after row
    std::vector<float> values;

    std::size_t rows() const noexcept {
        return (table == Table::points ? points.size() : values.size()) / dimension;
    }
    // What coordinate `axis` of a symbol is multiplied with.
    double scale(std::size_t axis) const noexcept;

    Bytes write() const;
    static Model read(ByteView data);
};

// A chunk between quantiser and coder.
struct Chunk {
    std::size_t elements = 0;
    std::vector<std::uint32_t> positions;  // of the surviving elements, if masked
    std::vector<double> points;            // natural coordinates of whole symbols (no table)
    std::vector<std::uint32_t> rows;       // of the table

    std::size_t survivors(const Model& model) const noexcept {
        return model.masked ? positions.size() : elements;
    }
};

// Payload of a chunk for the coders of the engine.
Bytes write_chunk(const Model& model, const Chunk& chunk);
// For the others: what comes before the packed bytes, and the bytes to pack.
struct Raw {
    Bytes head;
    Bytes body;
};
Raw raw_chunk(const Model& model, const Chunk& chunk);

// Unpacks a stream of the coder to exactly as many bytes, or throws DecodeError.
using Unpack = std::function<Bytes(Coder, ByteView, std::size_t)>;
Chunk read_chunk(const Model& model, std::size_t elements, ByteView payload, const Unpack& unpack);

// Values of a chunk's elements; `first_vector` is the number of its first lattice vector.
void reconstruct(const Model& model, const Chunk& chunk, std::uint64_t first_vector, DType dtype,
                 std::span<std::uint8_t> out);

}  // namespace universal

enum class DitherMode : std::uint8_t { off, on, automatic };

struct UniversalOptions {
    lattice::Lattice lattice = lattice::Lattice::z;
    DitherMode dither = DitherMode::automatic;
    universal::Coder coder = universal::Coder::mixing;
    std::size_t dimension = 0;  // of a table's vectors; 0: no table
    bool centroid = false;      // table of mean values
    bool exact = false;         // refuse what would change
    std::uint64_t key = 0;
    std::span<const float> table;  // exact: rows to be found again after dither
};

class UniversalPlan {
  public:
    // Throws ArgumentError for what the codec cannot take. `input` must outlive the plan, with what it points
    // to.
    UniversalPlan(const UniformInput& input, const UniversalOptions& options, std::size_t threads);

    std::size_t elements() const noexcept { return source_.size(); }
    std::size_t chunk_elements() const noexcept { return chunk_elements_; }
    std::size_t chunks() const noexcept { return (elements() + chunk_elements_ - 1) / chunk_elements_; }
    const Bytes& model() const noexcept { return bytes_; }
    double squared_error() const noexcept { return squared_error_; }
    universal::Coder coder() const noexcept { return model_.coder; }
    bool dithered() const noexcept { return model_.dithered; }

    Bytes encode_chunk(std::size_t chunk) const;
    universal::Raw raw_chunk(std::size_t chunk) const;

  private:
    struct Quantised;
    class Rows;

    std::size_t chunk_size(std::size_t chunk) const noexcept;
    std::uint64_t first_vector(std::size_t chunk) const noexcept;
    Quantised survivors(std::size_t chunk) const;
    Quantised quantise(std::size_t chunk) const;
    universal::Chunk finished(std::size_t chunk) const;
    double rate_without_dither() const;
    void choose_layout(const UniformInput& input);
    void choose_mask();
    void make_table(const UniversalOptions& options);
    void measure(std::size_t threads);

    FloatSource source_;
    std::string name_;
    std::span<const float> importance_;
    bool exact_ = false;
    std::size_t chunk_elements_ = 1;
    universal::Model model_;
    std::shared_ptr<const Rows> rows_;
    Bytes bytes_;
    double squared_error_ = 0;
};

class UniversalDecoder final : public ChunkDecoder {
  public:
    // Untrusted: throws DecodeError.
    UniversalDecoder(std::uint8_t dtype, std::size_t elements, std::size_t chunk_elements, ByteView model,
                     universal::Unpack unpack = {});
    void decode(std::size_t chunk, ByteView payload, std::span<std::uint8_t> out) const override;

    const universal::Model& model() const noexcept { return model_; }

  private:
    DType dtype_{};
    std::size_t element_bytes_ = 0;
    std::size_t chunk_elements_ = 0;
    universal::Model model_;
    universal::Unpack unpack_;
};

}  // namespace nncodec
