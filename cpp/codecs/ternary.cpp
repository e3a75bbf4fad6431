#include "codecs/ternary.hpp"

#include <algorithm>
#include <cmath>

#include "base/scratch.hpp"
#include "codecs/ternary_coding.hpp"

namespace nncodec::ternary {
namespace {

constexpr std::size_t kChunkElements = std::size_t{1} << 18;

std::size_t element_bytes(DType dtype) noexcept {
    return dtype == DType::float32 ? 4 : 2;
}

bool is_aligned(const void* at, std::size_t bytes) noexcept {
    return reinterpret_cast<std::uintptr_t>(at) % bytes == 0;
}

// Elements first .. first + n of `data`, copied to aligned memory only if they are not there already.
const void* aligned(DType dtype, ByteView data, std::size_t first, std::size_t n, Scratch& scratch) {
    const std::size_t width = element_bytes(dtype);
    const ByteView wanted = data.subspan(first * width, n * width);
    if (is_aligned(wanted.data(), width)) return wanted.data();
    const std::span<std::uint8_t> copy = scratch.get(wanted.size());
    std::copy(wanted.begin(), wanted.end(), copy.begin());
    return copy.data();
}

std::size_t pieces_of(std::size_t n, std::size_t block) noexcept {
    return block == 0 ? 1 : (n + block - 1) / block;
}

// Bytes that n elements pack to, each block from a byte of its own on.
std::size_t packed_size_in_blocks(std::size_t n, std::size_t block) noexcept {
    return block == 0 ? packed_size(n) : n / block * packed_size(block) + packed_size(n % block);
}

bool is_scale(float scale) noexcept {
    return scale == 0 ? !std::signbit(scale) : scale >= kLeastScale && std::isfinite(scale);
}

}  // namespace

Encoder::Encoder(const EncoderInput& input) : input_(input) {
    if (!is_supported(input.dtype)) {
        throw ArgumentError("codec 'ternary' takes float32, float16 and bfloat16 only");
    }
    if (!(input.sparsity_multiplier >= 1) || !(input.sparsity_multiplier < 2)) {
        throw ArgumentError("sparsity_multiplier must be at least 1 and below 2");
    }
    if (input.block > kMaxBlock) throw ArgumentError("block must be at most " + std::to_string(kMaxBlock));
    elements_ = input.data.size() / element_bytes(input.dtype);
    chunk_elements_ = input.block == 0 ? kChunkElements : kChunkElements / input.block * input.block;
    float most = 0;
    Scratch scratch;
    for (std::size_t at = 0; at < elements_; at += kChunkElements) {
        const std::size_t n = std::min(kChunkElements, elements_ - at);
        most =
            std::max(most, absmax(input.dtype, aligned(input.dtype, input.data, at, n, scratch), nullptr, n));
    }
    if (!std::isfinite(most)) throw ArgumentError(input.name + " has NaN or infinite elements");
    scale_ = scale_of(most, input.sparsity_multiplier);

    ByteWriter out;
    out.u8(coding_byte(input.coding));
    out.varint(input.block);
    if (input.block == 0) out.le(scale_);
    model_ = out.take();
}

Bytes Encoder::encode_chunk(std::size_t chunk) const {
    thread_local Scratch scratch;
    thread_local Scratch digits;
    const std::size_t first = chunk * chunk_elements_;
    const std::size_t n = std::min(chunk_elements_, elements_ - first);
    const std::size_t block = input_.block == 0 ? n : input_.block;
    const std::span<std::uint8_t> packed = digits.get(packed_size_in_blocks(n, input_.block));
    ByteWriter scales;
    std::uint8_t* to = packed.data();
    for (std::size_t at = 0; at < n; at += block) {
        const std::size_t count = std::min(block, n - at);
        const void* const values = aligned(input_.dtype, input_.data, first + at, count, scratch);
        float scale = scale_;
        if (input_.block != 0) {
            scale = scale_of(absmax(input_.dtype, values, nullptr, count), input_.sparsity_multiplier);
            scales.le(scale);
        }
        quantise(input_.dtype, values, nullptr, count, scale, input_.coding.layout, to);
        to += packed_size(count);
    }
    Bytes payload = scales.take();
    encode_packed(packed, input_.coding.entropy, payload);
    return payload;
}

Decoder::Decoder(std::uint8_t dtype, std::size_t chunk_elements, ByteView model)
    : dtype_(static_cast<DType>(dtype)) {
    number_format(dtype);
    if (!is_supported(dtype_)) {
        throw DecodeError("element type " + std::to_string(dtype) + " is none of codec 'ternary'");
    }
    ByteReader in(model);
    const std::uint8_t coding = in.u8("coding");
    if (coding >= kCodings) in.fail("coding", "is the unknown " + std::to_string(coding));
    coding_ = coding_of(coding);
    block_ = static_cast<std::size_t>(in.varint("block", kMaxBlock));
    if (block_ == 0) {
        scale_ = in.le<float>("scale");
        if (!is_scale(scale_)) in.fail("scale", "is none");
    } else if (chunk_elements % block_ != 0) {
        in.fail("block", "of " + std::to_string(block_) + " does not divide chunks of " +
                             std::to_string(chunk_elements));
    }
    in.expect_end("model");
}

void Decoder::decode(std::size_t /*chunk*/, ByteView payload, std::span<std::uint8_t> out) const {
    const std::size_t width = element_bytes(dtype_);
    const std::size_t n = out.size() / width;
    const std::size_t block = block_ == 0 ? std::max<std::size_t>(n, 1) : block_;
    ByteReader in(payload);
    ByteReader scales(block_ == 0 ? ByteView{} : in.bytes(pieces_of(n, block_) * sizeof(float), "scales"));
    const std::span<const std::uint8_t> packed =
        decode_packed(in.rest(), coding_.entropy, packed_size_in_blocks(n, block_));

    thread_local Scratch scratch;
    const bool in_place = is_aligned(out.data(), width);
    std::uint8_t* const to = in_place ? out.data() : scratch.get(out.size()).data();
    const std::uint8_t* from = packed.data();
    for (std::size_t at = 0; at < n; at += block) {
        const std::size_t count = std::min(block, n - at);
        const float scale = block_ == 0 ? scale_ : scales.le<float>("scale");
        if (!is_scale(scale)) throw DecodeError("a block's scale is none");
        expand(dtype_, from, count, std::min(scale, largest_of(dtype_)), coding_.layout, false,
               to + at * width);
        from += packed_size(count);
    }
    if (!in_place) std::copy_n(to, out.size(), out.data());
}

}  // namespace nncodec::ternary
