#include "codecs/lowrank.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>

#include "codecs/trellis.hpp"
#include "codecs/uniform.hpp"
#include "transform/low_rank.hpp"

namespace nncodec {
namespace lowrank {
namespace {

constexpr std::uint8_t kUniform = 2;
constexpr std::uint8_t kTrellis = 3;
constexpr std::size_t kMaxChunkElements = std::size_t{1} << 20;

enum class Form : std::uint8_t { factors = 0, plain = 1 };

// Only these, so that a record inside a record never holds a third one.
std::unique_ptr<ChunkDecoder> inner_decoder(ByteReader& in, std::uint8_t codec, std::uint8_t dtype,
                                            std::span<const Shape> shapes, std::size_t chunk_elements,
                                            ByteView model) {
    if (codec == kUniform) return std::make_unique<UniformDecoder>(dtype, shapes, chunk_elements, model);
    if (codec == kTrellis)
        return std::make_unique<TrellisDecoder>(dtype, shapes, chunk_elements, model, 1);  // version
    in.fail("codec of the factors", "is " + std::to_string(codec) + ", none of 2 and 3");
}

}  // namespace

Sides sides_of(const Shape& shape) noexcept {
    Sides sides{shape.empty() ? 1 : shape[0], 1};
    for (std::size_t i = 1; i < shape.size(); ++i) sides.columns *= shape[i];
    return sides;
}

Bytes write_model(std::uint8_t codec, std::span<const float> scales, std::size_t chunk_elements,
                  ByteView inner_model, std::span<const ByteView> payloads) {
    ByteWriter out;
    out.u8(static_cast<std::uint8_t>(Form::factors));
    out.u8(codec);
    out.varint(scales.size());
    for (const float scale : scales) out.le(scale);
    out.varint(chunk_elements);
    out.block(inner_model);
    for (const ByteView payload : payloads) out.block(payload);
    return out.take();
}

}  // namespace lowrank

LowRankDecoder::LowRankDecoder(std::uint8_t dtype, std::span<const Shape> shapes, std::size_t chunk_elements,
                               ByteView model)
    : dtype_(static_cast<DType>(dtype)),
      element_bytes_(number_format(dtype).bytes),
      chunk_elements_(chunk_elements) {
    if (!is_quantisable(dtype_))
        throw DecodeError("element type " + std::to_string(dtype) + " is none of codec 'lowrank'");
    ByteReader in(model);
    const unsigned form = in.u8("form");
    const std::uint8_t codec = in.u8("codec of the factors");
    if (form == static_cast<unsigned>(lowrank::Form::plain)) {
        plain_ = lowrank::inner_decoder(in, codec, dtype, shapes, chunk_elements, in.rest());
        return;
    }
    if (form != static_cast<unsigned>(lowrank::Form::factors))
        in.fail("form", "is " + std::to_string(form) + ", none of 0 and 1");
    if (shapes.size() != 1) throw DecodeError("factors belong to a record of several tensors");
    const auto [rows, columns] = lowrank::sides_of(shapes[0]);
    columns_ = columns;
    const auto rank =
        static_cast<std::size_t>(in.varint("rank", std::min({rows, columns, lowrank::kMaxFactorElements})));
    if (rank == 0) in.fail("rank", "is 0");
    if (rows > lowrank::kMaxFactorElements || columns > lowrank::kMaxFactorElements ||
        rank * (rows + columns) > lowrank::kMaxFactorElements)
        in.fail("rank", "makes factors of more than 2^24 elements");
    if (in.left() / sizeof(float) < rank) in.fail("scales", "are cut short");
    scales_.resize(rank);
    for (float& scale : scales_) {
        scale = in.le<float>("scale");
        if (!(scale >= 0) || !std::isfinite(scale)) in.fail("scale", "is no finite number of at least 0");
    }
    const std::size_t elements = rank * (rows + columns);
    const auto inner_chunk =
        static_cast<std::size_t>(in.varint("elements of a chunk of the factors", lowrank::kMaxChunkElements));
    if (inner_chunk == 0) in.fail("elements of a chunk of the factors", "are 0");
    const ByteView inner_model = in.block("model of the factors");
    const std::size_t chunks = (elements + inner_chunk - 1) / inner_chunk;
    if (in.left() < chunks) in.fail("factors", "are cut short");
    const std::array<Shape, 2> inner_shapes{Shape{rows, rank}, Shape{rank, columns}};
    const auto inner = lowrank::inner_decoder(in, codec, static_cast<std::uint8_t>(DType::float32),
                                              inner_shapes, inner_chunk, inner_model);
    std::vector<float> factors;
    for (std::size_t chunk = 0; chunk < chunks; ++chunk) {
        const std::size_t size = std::min(inner_chunk, elements - chunk * inner_chunk);
        factors.resize(factors.size() + size);
        inner->decode(chunk, in.block("factors"),
                      {reinterpret_cast<std::uint8_t*>(factors.data() + factors.size() - size), 4 * size});
    }
    in.expect_end("model");
    left_.assign(factors.begin(), factors.begin() + static_cast<std::ptrdiff_t>(rows * rank));
    right_.assign(factors.begin() + static_cast<std::ptrdiff_t>(rows * rank), factors.end());
}

void LowRankDecoder::decode(std::size_t chunk, ByteView payload, std::span<std::uint8_t> out) const {
    if (plain_ != nullptr) return plain_->decode(chunk, payload, out);
    if (!payload.empty()) throw DecodeError("a chunk that is computed has bytes");
    constexpr std::size_t kBlock = 4096;
    std::array<double, kBlock> numbers;
    const std::size_t n = out.size() / element_bytes_;
    for (std::size_t done = 0; done < n; done += kBlock) {
        const std::span block = std::span(numbers).first(std::min(kBlock, n - done));
        low_rank::product(left_, scales_, right_, columns_, chunk * chunk_elements_ + done, block);
        for (std::size_t i = 0; i < block.size(); ++i) {
            const std::uint64_t bits = round_to(dtype_, block[i]);
            std::memcpy(out.data() + (done + i) * element_bytes_, &bits, element_bytes_);
        }
    }
}

}  // namespace nncodec
