#include "quantize/ternary.hpp"

#include <algorithm>
#include <limits>

#include "base/dispatch.hpp"
#include "quantize/ternary_impl.hpp"

namespace nncodec::ternary {

constinit const Kernels kScalarKernels = make_kernels();

namespace {

// On aarch64 the baseline has NEON, so that the plain loops are vector loops already.
const Kernels& kernels() noexcept {
#if defined(__x86_64__)
    switch (active_isa()) {
        case Isa::avx512:
            return kAvx512Kernels;
        case Isa::avx2:
            return kAvx2Kernels;
        case Isa::neon:
        case Isa::scalar:
            break;
    }
#endif
    return kScalarKernels;
}

std::size_t index_of(DType dtype) noexcept {
    return dtype == DType::float32 ? 0 : dtype == DType::float16 ? 1 : 2;
}

}  // namespace

bool within_digits(ByteView packed) noexcept {
    std::uint8_t most = 0;
    for (const std::uint8_t byte : packed) most = std::max(most, byte);
    return most <= kLargestByte;
}

bool is_supported(DType dtype) noexcept {
    return dtype == DType::float32 || dtype == DType::float16 || dtype == DType::bfloat16;
}

float absmax(DType dtype, const void* values, const float* residual, std::size_t n) noexcept {
    const std::uint32_t bits = kernels().absmax[index_of(dtype)](values, residual, n);
    constexpr float kInfinity = std::numeric_limits<float>::infinity();
    return bits < std::bit_cast<std::uint32_t>(kInfinity) ? std::bit_cast<float>(bits) : kInfinity;
}

float scale_of(float absmax, float sparsity_multiplier) noexcept {
    const float scale = std::min(absmax * sparsity_multiplier, std::numeric_limits<float>::max());
    return scale < kLeastScale ? 0.0F : scale;
}

void quantise(DType dtype, const void* values, float* residual, std::size_t n, float scale, Layout layout,
              std::uint8_t* packed) noexcept {
    const float half = scale == 0 ? std::numeric_limits<float>::infinity() : scale / 2;
    kernels().quantise[index_of(dtype)][static_cast<std::size_t>(layout)](values, residual, n, scale, half,
                                                                          packed);
}

void expand(DType dtype, const std::uint8_t* packed, std::size_t n, float scale, Layout layout,
            bool accumulate, void* out) noexcept {
    kernels().expand[index_of(dtype)][static_cast<std::size_t>(layout)](packed, n, scale, accumulate, out);
}

}  // namespace nncodec::ternary
