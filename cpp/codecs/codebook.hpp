// Codec 5, `codebook`: a table of values, and for each element (or short vector of elements) its index,
// static rANS. Bytes: docs/format.md#codebook
//
// What surprises: it does not cluster. Who encodes brings table and indices, whether they come from k-means,
// from training, or from a tensor that holds few values anyway; here they are coded.
#pragma once

#include <bit>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "codecs/chunk_decoder.hpp"
#include "quantize/float_source.hpp"
#include "quantize/lookup.hpp"
#include "quantize/scales.hpp"

namespace nncodec {

using Shape = std::vector<std::size_t>;

namespace codebook {

inline constexpr std::size_t kMaxEntries = 65536;
inline constexpr unsigned kDirect = 128;  // indices below have a token of their own
inline constexpr unsigned kTokens = 200;

// Larger indices share a token by exponent (7 to 15) and the three bits after the leading one.
constexpr unsigned token_of(unsigned index) noexcept {
    if (index < kDirect) return index;
    const auto exponent = static_cast<unsigned>(std::bit_width(index)) - 1;
    return kDirect + 8 * (exponent - 7) + ((index >> (exponent - 3)) & 7U);
}
constexpr unsigned extra_bits(unsigned token) noexcept {
    return token < kDirect ? 0 : (token - kDirect) / 8 + 4;
}
constexpr unsigned base_index(unsigned token) noexcept {
    return token < kDirect ? token : (8U + (token - kDirect) % 8) << extra_bits(token);
}
static_assert(token_of(65535) == kTokens - 1 && base_index(kTokens - 1) == 15U << 12);
static_assert(token_of(128) == 128 && base_index(128) == 128 && extra_bits(128) == 4);

}  // namespace codebook

struct CodebookInput {
    DType dtype{};
    ByteView data;  // the tensors' elements, which classes are fitted to
    std::vector<Shape> shapes;
    unsigned dimension = 1;  // elements per entry: 1, 2 or 4
    ByteView entries;        // of the element type
    std::span<const std::uint16_t> indices;
    bool classes = true;
    std::string name;  // for error messages
};

class CodebookPlan {
  public:
    // Throws ArgumentError for sizes that do not fit or an index beyond the entries. Spans must outlive the
    // plan.
    CodebookPlan(const CodebookInput& input, std::size_t threads);

    std::size_t chunk_elements() const noexcept { return chunk_elements_; }
    std::size_t chunks() const noexcept { return (elements_ + chunk_elements_ - 1) / chunk_elements_; }
    const Bytes& model() const noexcept { return model_; }
    Bytes encode_chunk(std::size_t chunk) const;

  private:
    struct Candidate;

    Candidate candidate(scales::Axes axes, const FloatSource& source, std::size_t threads) const;
    std::vector<std::uint64_t> count(const scales::ContextMap& map) const;

    unsigned dimension_;
    std::size_t elements_;
    std::vector<std::size_t> sizes_;
    std::vector<Shape> shapes_;
    std::span<const std::uint16_t> indices_;
    std::size_t chunk_elements_ = 1;
    scales::ContextMap map_;
    std::optional<rans::Encoder> encoder_;
    unsigned lanes_ = 1;
    bool has_extra_ = false;
    Bytes model_;
};

class CodebookDecoder final : public ChunkDecoder {
  public:
    // Untrusted: throws DecodeError.
    CodebookDecoder(std::uint8_t dtype, std::span<const Shape> shapes, std::size_t chunk_elements,
                    ByteView model);
    void decode(std::size_t chunk, ByteView payload, std::span<std::uint8_t> out) const override;

  private:
    void look_up(std::span<const std::uint8_t> tokens, ByteView extra, std::span<std::uint8_t> out) const;

    std::size_t chunk_elements_;
    std::size_t element_bytes_ = 0;
    unsigned dimension_ = 1;
    unsigned lanes_ = 1;
    bool has_extra_ = false;
    scales::ContextMap map_;
    std::optional<rans::Decoder> rans_;
    lookup::Table table_;
};

}  // namespace nncodec
