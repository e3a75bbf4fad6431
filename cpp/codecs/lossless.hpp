// The lossless codec: any element type, bit for bit. Bytes and method: docs/format.md#lossless
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "base/bytes.hpp"
#include "codecs/chunk_decoder.hpp"
#include "codecs/lossless_model.hpp"

namespace nncodec::lossless {

// One record's elements. `columns`: elements per row, rows being what is likely to have a scale of its own
// (output channels, words of an embedding); at least 1.
struct Part {
    std::uint8_t dtype = 0;
    std::size_t columns = 1;
    ByteView data;
};

struct Plan;  // lossless_encoder.hpp

// A part of which everything but the chunks is decided. The part's data must outlive it.
class Encoding {
  public:
    explicit Encoding(const Part& part);
    Encoding(Encoding&&) noexcept;
    Encoding& operator=(Encoding&&) noexcept;
    ~Encoding();

    std::size_t chunk_elements() const noexcept;
    std::size_t chunks() const noexcept;
    const Bytes& model() const noexcept { return model_; }
    unsigned version() const noexcept { return version_; }  // of the payload: the least that can hold it

    // Chunks first .. end - 1, in parallel; the bytes do not depend on `threads` (0: all cores). Moves out
    // what was encoded ahead, so that each chunk is asked for once.
    std::vector<Bytes> encode(std::size_t first, std::size_t end, std::size_t threads);

  private:
    friend std::vector<Encoding> encode(std::span<const Part> parts, std::size_t threads);
    void settle();

    std::unique_ptr<Plan> plan_;
    Bytes model_;
    unsigned version_ = 1;
    std::vector<Bytes> ready_;  // all chunks, if they were encoded ahead
};

// Parts above this many bytes are only planned, so that a tensor of any size is encoded in bounded memory.
inline constexpr std::size_t kMostAhead = std::size_t{16} << 20;

// Plans all parts, and encodes those that are not too long, in parallel over the chunks of all of them.
// Throws ArgumentError when a part's size is no multiple of its element size.
std::vector<Encoding> encode(std::span<const Part> parts, std::size_t threads);

class Decoder final : public ChunkDecoder {
  public:
    // `version`: of the payload, 1 or 2. `elements`: of the whole record. Throws DecodeError when the model
    // is bad or does not fit.
    Decoder(unsigned version, std::uint8_t dtype, std::uint64_t elements, std::size_t chunk_elements,
            ByteView model);

    void decode(std::size_t chunk, ByteView payload, std::span<std::uint8_t> out) const override;
    void decode_fresh(std::size_t chunk, ByteView payload, std::span<std::uint8_t> out) const override;

  private:
    void decode_to(std::size_t chunk, ByteView payload, std::span<std::uint8_t> out,
                   planes::Destination destination) const;
    void decode_symbols(ByteReader& in, std::uint8_t mode, std::size_t first_row,
                        std::span<std::uint8_t> out) const;
    void decode_floats(ByteReader& in, std::uint8_t mode, std::size_t first_row, std::span<std::uint8_t> out,
                       planes::Destination destination) const;
    void decode_palette(ByteReader& in, std::uint8_t mode, std::size_t first_row,
                        std::span<std::uint8_t> out) const;

    NumberFormat format_;
    std::uint64_t numbers_;
    std::size_t chunk_numbers_;
    Model model_;
    std::vector<std::uint8_t> row_table_;  // per row of the record; empty if all rows use table 0
    std::vector<rans::Decoder> rans_;      // one, if the model has tables
};

}  // namespace nncodec::lossless
