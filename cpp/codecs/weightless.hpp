// Codec 7, `weightless`: a tensor of few distinct values, most of them zero, inside a retrieval structure.
// Bytes: docs/format.md#weightless
//
// What surprises: positions are not stored. Every position is looked up; a key (a weight that is not zero)
// gives the number of its value, any other position a random code, which is mostly too high to be a value and
// so means zero. Where it is not, a zero comes back as a weight: the loss of this codec. In exact mode a
// second table holds a flag for every position whose code is a value, which tells keys from others.
//
// A payload is its own little random-access file: WeightlessChunk reads its header and answers for any
// position.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "codecs/chunk_decoder.hpp"
#include "quantize/float_source.hpp"
#include "retrieval/bloomier.hpp"
#include "retrieval/ribbon.hpp"

namespace nncodec {

namespace weightless {

using retrieval::Hit;
using retrieval::Key;

inline constexpr std::size_t kMaxValues = 4096;

enum class Structure : std::uint8_t { bloomier = 0, ribbon = 1 };

// What all chunks of a record share.
struct Model {
    Structure structure = Structure::ribbon;
    bool exact = false;
    bool packed = false;  // Bloomier tables without the cells that are 0
    unsigned bits = 8;    // of a code
    unsigned words = 4;   // of a window, ribbon only
    std::uint32_t values = 1;
};

// One table of either structure.
struct Table {
    std::uint32_t cells = 0;  // ribbon: eighths of the slots; Bloomier: a third of the cells; 0: no keys
    std::uint64_t seed = 0;
    ByteView data;  // empty if packed and not expanded yet
    ByteView stream;
};

// The tables of a range of positions.
struct Shard {
    Key first = 0;
    Key end = 0;
    Table codes;
    Table flags;  // exact mode only
};

// A payload whose header was read and checked.
class Chunk {
  public:
    // Throws DecodeError. `payload` must outlive the chunk.
    Chunk(const Model& model, ByteView payload, std::size_t positions);

    // Appends the positions that are not zero, in order, with the numbers of their values.
    void hits(std::vector<Hit>& out) const;

    // The number of the value at each position, or values() for zero. Positions lie inside the chunk; they
    // may come in any order, but packed tables are expanded anew for each call.
    void look_up(std::span<const Key> positions, std::span<std::uint16_t> codes) const;

    std::uint32_t values() const noexcept { return model_.values; }

  private:
    void expand();

    Model model_;
    std::size_t shard_positions_;
    std::vector<Shard> shards_;
    std::vector<Bytes> expanded_;
};

// The payload of a chunk of `positions` positions of which `keys` (ascending) have codes below model.values.
// `seed` is the first that is tried. Throws ArgumentError if no seed works.
Bytes encode_chunk(const Model& model, std::span<const Key> keys, std::span<const std::uint16_t> codes,
                   std::size_t positions, std::uint64_t seed);

}  // namespace weightless

// Decides nothing but which value each weight is; made once per part.
class WeightlessPlan {
  public:
    // `values`: the distinct values in the tensor's element type, ascending, none of them zero. Each weight
    // that is not zero takes the nearest, the lower of two. `data` must outlive the plan. Throws
    // ArgumentError.
    WeightlessPlan(std::uint8_t dtype, ByteView data, ByteView values, const weightless::Model& model,
                   std::uint64_t seed, std::string name);

    std::size_t elements() const noexcept { return source_.size(); }
    std::size_t chunk_elements() const noexcept { return chunk_elements_; }
    std::size_t chunks() const noexcept { return (elements() + chunk_elements_ - 1) / chunk_elements_; }
    const Bytes& model() const noexcept { return bytes_; }

    Bytes encode_chunk(std::size_t chunk) const;

  private:
    FloatSource source_;
    std::vector<double> values_;
    weightless::Model model_;
    std::uint64_t seed_;
    std::string name_;
    std::size_t chunk_elements_;
    Bytes bytes_;
};

class WeightlessDecoder : public ChunkDecoder {
  public:
    // Throws DecodeError when the model is bad.
    WeightlessDecoder(std::uint8_t dtype, std::size_t elements, std::size_t chunk_elements, ByteView model);

    void decode(std::size_t chunk, ByteView payload, std::span<std::uint8_t> out) const override;

    // The elements at some positions of a chunk, one after the other.
    void look_up(std::size_t chunk, ByteView payload, std::span<const weightless::Key> positions,
                 std::span<std::uint8_t> out) const;

    const weightless::Model& model() const noexcept { return model_; }
    std::size_t element_bytes() const noexcept { return element_bytes_; }

  private:
    std::size_t chunk_size(std::size_t chunk) const;

    weightless::Model model_;
    std::size_t element_bytes_;
    std::size_t elements_;
    std::size_t chunk_elements_;
    Bytes values_;  // one element each, and a zero
};

}  // namespace nncodec
