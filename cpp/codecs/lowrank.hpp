// Codec 9, `lowrank`: a matrix as the product of two factors, which codec `uniform` or `trellis` codes as one
// record of two tensors inside the model. Bytes: docs/format.md#lowrank
//
// What surprises: chunks are empty. Factors belong to all of the tensor and are small, so the model holds
// them, and a chunk is computed.
#pragma once

#include <memory>
#include <span>
#include <vector>

#include "codecs/chunk_decoder.hpp"
#include "codecs/codebook.hpp"
#include "quantize/float_source.hpp"

namespace nncodec {

namespace lowrank {

inline constexpr std::size_t kMaxFactorElements = std::size_t{1} << 24;

// The matrix that a tensor is: its first dimension by all others.
struct Sides {
    std::size_t rows = 0;
    std::size_t columns = 0;
};
Sides sides_of(const Shape& shape) noexcept;

// The model of a tensor whose factors are coded: codec and version of the record inside, its chunks, its
// model, its payloads.
Bytes write_model(std::uint8_t codec, std::span<const float> scales, std::size_t chunk_elements,
                  ByteView inner_model, std::span<const ByteView> payloads);

}  // namespace lowrank

class LowRankDecoder final : public ChunkDecoder {
  public:
    // Untrusted: throws DecodeError.
    LowRankDecoder(std::uint8_t dtype, std::span<const Shape> shapes, std::size_t chunk_elements,
                   ByteView model);
    void decode(std::size_t chunk, ByteView payload, std::span<std::uint8_t> out) const override;

    std::size_t rank() const noexcept { return scales_.size(); }  // 0: the tensor is stored as it is

  private:
    DType dtype_{};
    std::size_t element_bytes_ = 0;
    std::size_t chunk_elements_ = 0;
    std::size_t columns_ = 0;
    std::unique_ptr<ChunkDecoder> plain_;
    std::vector<float> scales_;
    std::vector<float> left_;
    std::vector<float> right_;
};

}  // namespace nncodec
