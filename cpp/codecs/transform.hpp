// Codec 6, `transform`: cosine or Hadamard transform of a tensor's blocks, then quantised coefficients; and
// the forms of its paper: one step for all coefficients of a tensor, clustered vectors. Bytes:
// docs/format.md#transform
//
// What surprises: it is made of other codecs. Coefficients that a budget steers are those of codec `uniform`,
// clustered vectors those of codec `codebook`; only what comes before and after is here.
#pragma once

#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "codecs/chunk_decoder.hpp"
#include "codecs/codebook.hpp"
#include "codecs/uniform.hpp"
#include "transform/dct.hpp"

namespace nncodec {

namespace blocks {

enum class Kind : std::uint8_t { identity = 0, cosine = 1, hadamard = 2 };

// Which transform, of blocks of which sides. A block's numbers follow each other.
struct Transform {
    Kind kind = Kind::identity;
    std::uint8_t height = 1;
    std::uint8_t width = 1;

    std::size_t area() const noexcept { return std::size_t{height} * width; }
    bool operator==(const Transform&) const = default;
};

bool possible(const Transform& transform) noexcept;
void forward(const Transform& transform, std::span<float> numbers);
void inverse(const Transform& transform, std::span<float> coefficients);

}  // namespace blocks

struct TransformInput {
    DType dtype{};
    ByteView data;
    Shape shape;
    double step = 0;
    std::span<const float> importance;
    std::string name;
};

// The form whose step a budget gives: that of several transforms which codes to fewest bits.
class TransformPlan {
  public:
    // `input`'s spans must outlive the plan. Throws ArgumentError as UniformPlan does, and for an impossible
    // transform.
    TransformPlan(const TransformInput& input, std::span<const blocks::Transform> choices,
                  std::size_t threads);

    std::size_t chunk_elements() const noexcept { return plan_->chunk_elements(); }
    std::size_t chunks() const noexcept { return plan_->chunks(); }
    const Bytes& model() const noexcept { return model_; }
    double bits() const noexcept { return plan_->bits() + 32; }
    double squared_error() const noexcept { return plan_->squared_error(); }
    Bytes encode_chunk(std::size_t chunk) const { return plan_->encode_chunk(chunk); }

  private:
    std::vector<float> coefficients_;  // these two are read by the plan
    std::vector<float> importance_;
    std::unique_ptr<UniformPlan> plan_;
    Bytes model_;
};

class TransformDecoder final : public ChunkDecoder {
  public:
    // Untrusted: throws DecodeError.
    TransformDecoder(std::uint8_t dtype, std::span<const Shape> shapes, std::size_t chunk_elements,
                     ByteView model);
    void decode(std::size_t chunk, ByteView payload, std::span<std::uint8_t> out) const override;

  private:
    void decode_fixed(ByteView payload, std::span<std::uint8_t> out) const;
    void finish(std::span<float> coefficients, std::span<std::uint8_t> out) const;

    DType dtype_;
    std::size_t element_bytes_;
    blocks::Transform transform_;
    std::unique_ptr<ChunkDecoder>
        inner_;  // of coefficients, or of the tensor itself where nothing is transformed
    bool raw_ = false;
    bool bzip2_ = false;
    std::optional<rans::Decoder> rans_;
    unsigned lanes_ = 1;
    float step_ = 0;
};

}  // namespace nncodec
