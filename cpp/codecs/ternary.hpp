// Codec 8, `ternary`: 3LC's three values, base-3^5 bytes, zero runs or rANS; and the same as messages between
// the workers of a training run, with error feedback. Bytes: docs/format.md#ternary
//
// What surprises: a message is decided by its sender alone and says everything but the element type and the
// number of elements, so ranks may be set up differently and still understand each other.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "codecs/chunk_decoder.hpp"
#include "quantize/ternary.hpp"

namespace nncodec::ternary {

enum class Entropy : std::uint8_t { zero_run = 0, rans = 1 };

struct Coding {
    Layout layout = Layout::consecutive;
    Entropy entropy = Entropy::rans;
};

// --- a record of a file

struct EncoderInput {
    DType dtype{};
    ByteView data;
    float sparsity_multiplier = 1;
    std::size_t block = 0;  // elements that share a scale; 0: all
    Coding coding;
    std::string name;  // for error messages
};

inline constexpr std::size_t kMaxBlock = std::size_t{1} << 18;

class Encoder {
  public:
    // Throws ArgumentError for a dtype that is not supported, a sparsity multiplier outside [1, 2), a block
    // above kMaxBlock, or NaN or infinite elements. `input.data` must outlive the encoder.
    explicit Encoder(const EncoderInput& input);

    std::size_t chunk_elements() const noexcept { return chunk_elements_; }
    std::size_t chunks() const noexcept { return (elements_ + chunk_elements_ - 1) / chunk_elements_; }
    const Bytes& model() const noexcept { return model_; }
    Bytes encode_chunk(std::size_t chunk) const;

  private:
    EncoderInput input_;
    std::size_t elements_ = 0;
    std::size_t chunk_elements_ = 1;
    float scale_ = 0;  // of all elements, if input_.block is 0
    Bytes model_;
};

class Decoder final : public ChunkDecoder {
  public:
    // Untrusted: throws DecodeError.
    Decoder(std::uint8_t dtype, std::size_t chunk_elements, ByteView model);
    void decode(std::size_t chunk, ByteView payload, std::span<std::uint8_t> out) const override;

    Coding coding() const noexcept { return coding_; }
    std::size_t block() const noexcept { return block_; }
    float scale() const noexcept { return scale_; }

  private:
    DType dtype_{};
    Coding coding_;
    std::size_t block_ = 0;
    float scale_ = 0;
};

// --- a message

// Appends the message of residual + values, and keeps in `residual` (null: nothing is kept) what it does not
// say. Returns false, having changed nothing, where a sum is NaN or infinite.
bool write_message(DType dtype, const void* values, float* residual, std::size_t n, float sparsity_multiplier,
                   Coding coding, Bytes& out);

// The message that carries `values` as they are.
void write_raw_message(DType dtype, const void* values, std::size_t n, Bytes& out);

// out[i] += weight * what the message says, or = if `accumulate` is false. Untrusted: throws DecodeError,
// having changed nothing.
void read_message(ByteView message, DType dtype, std::size_t n, float weight, bool accumulate, void* out);

}  // namespace nncodec::ternary
