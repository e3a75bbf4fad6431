#include "codecs/ternary_coding.hpp"

#include <limits>

#include "base/scratch.hpp"
#include "entropy/ternary_rans.hpp"
#include "entropy/zero_run.hpp"

namespace nncodec::ternary {

static_assert(zero_run::kZero == kZeroByte && zero_run::kFirstRun == kLargestByte + 1);

std::uint8_t coding_byte(Coding coding) noexcept {
    return static_cast<std::uint8_t>(static_cast<unsigned>(coding.layout) +
                                     2 * static_cast<unsigned>(coding.entropy));
}

Coding coding_of(std::uint8_t byte) noexcept {
    return {static_cast<Layout>(byte & 1), static_cast<Entropy>(byte >> 1 & 1)};
}

void encode_packed(std::span<std::uint8_t> packed, Entropy entropy, Bytes& out) {
    if (entropy == Entropy::rans) {
        ternary_rans::encode(packed, out);
    } else {
        const std::size_t size = zero_run::encode(packed, packed.data());
        out.insert(out.end(), packed.begin(), packed.begin() + static_cast<std::ptrdiff_t>(size));
    }
}

std::span<const std::uint8_t> decode_packed(ByteView code, Entropy entropy, std::size_t size) {
    thread_local Scratch scratch;
    if (entropy == Entropy::rans) {
        const std::span<std::uint8_t> packed = scratch.get(size);
        ternary_rans::decode(code, packed);
        return packed;
    }
    if (size > code.size() * zero_run::kLongestRun) check(Status::truncated, "zero runs");
    const std::span<std::uint8_t> packed = scratch.get(size + zero_run::kSlack).first(size);
    check(zero_run::decode(code, packed), "zero runs");
    return packed;
}

float largest_of(DType dtype) noexcept {
    if (dtype == DType::float16) return 65504.0F;
    if (dtype == DType::bfloat16) return 0x1.FEp127F;
    return std::numeric_limits<float>::max();
}

}  // namespace nncodec::ternary
