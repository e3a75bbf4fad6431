#include <cmath>
#include <string>

#include "base/scratch.hpp"
#include "codecs/ternary.hpp"
#include "codecs/ternary_coding.hpp"
#include "quantize/ternary_formats.hpp"

namespace nncodec::ternary {
namespace {

// Kinds of messages from kCodings on.
constexpr std::uint8_t kRaw = 4;
constexpr std::uint8_t kNothing = 5;  // all zeros

template <typename Format>
void add_raw(const std::uint8_t* from, std::size_t n, float weight, bool accumulate, void* to) noexcept {
    using Storage = typename Format::Storage;
    auto* const out = static_cast<Storage*>(to);
    for (std::size_t i = 0; i < n; ++i) {
        const float value = weight * Format::load(load_le<Storage>(from + i * sizeof(Storage)));
        out[i] = Format::store(accumulate ? Format::load(out[i]) + value : value);
    }
}

}  // namespace

bool write_message(DType dtype, const void* values, float* residual, std::size_t n, float sparsity_multiplier,
                   Coding coding, Bytes& out) {
    const float most = absmax(dtype, values, residual, n);
    if (!std::isfinite(most)) return false;
    const float scale = scale_of(most, sparsity_multiplier);
    thread_local Scratch scratch;
    const std::span<std::uint8_t> packed = scratch.get(packed_size(n));
    quantise(dtype, values, residual, n, scale, coding.layout, packed.data());
    if (scale == 0) {  // what was too small to be sent is in the residual now
        out.push_back(kNothing);
        return true;
    }
    ByteWriter head;
    head.u8(coding_byte(coding));
    head.le(scale);
    out.insert(out.end(), head.data().begin(), head.data().end());
    encode_packed(packed, coding.entropy, out);
    return true;
}

void write_raw_message(DType dtype, const void* values, std::size_t n, Bytes& out) {
    out.push_back(kRaw);
    const auto* const from = static_cast<const std::uint8_t*>(values);
    out.insert(out.end(), from, from + n * (dtype == DType::float32 ? 4 : 2));
}

void read_message(ByteView message, DType dtype, std::size_t n, float weight, bool accumulate, void* out) {
    ByteReader in(message);
    const std::uint8_t kind = in.u8("kind of message");
    const std::size_t width = dtype == DType::float32 ? 4 : 2;
    if (kind == kNothing) {
        in.expect_end("message");
        if (!accumulate && n != 0) std::memset(out, 0, n * width);  // nothing may have no address
        return;
    }
    if (kind == kRaw) {
        const ByteView values = in.bytes(n * width, "values");
        in.expect_end("message");
        if (dtype == DType::float32) return add_raw<Float32>(values.data(), n, weight, accumulate, out);
        if (dtype == DType::float16) return add_raw<Float16>(values.data(), n, weight, accumulate, out);
        return add_raw<BFloat16>(values.data(), n, weight, accumulate, out);
    }
    if (kind >= kCodings) in.fail("kind of message", "is the unknown " + std::to_string(kind));
    const Coding coding = coding_of(kind);
    const float scale = in.le<float>("scale");
    if (!(scale >= kLeastScale) || !std::isfinite(scale)) in.fail("scale", "is none");
    const float step = scale * weight;
    if (!std::isfinite(step)) in.fail("scale", "is too large");
    const std::span<const std::uint8_t> packed = decode_packed(in.rest(), coding.entropy, packed_size(n));
    expand(dtype, packed.data(), n, step, coding.layout, accumulate, out);
}

}  // namespace nncodec::ternary
