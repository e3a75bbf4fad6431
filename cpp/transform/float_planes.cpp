#include "transform/float_planes.hpp"

#if defined(__x86_64__)
#include <xmmintrin.h>
#endif

#include "base/dispatch.hpp"
#include "transform/float_planes_impl.hpp"

namespace nncodec::planes {

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

std::size_t index_of(const NumberFormat& format) noexcept {
    return format.bytes == 8 ? 2 : format.bytes == 4 ? 1 : 0;
}

}  // namespace

std::uint64_t symbols_of(const NumberFormat& format, const SymbolMap& map, const std::uint8_t* numbers,
                         std::size_t n, std::uint8_t* symbols) noexcept {
    return kernels().symbols[index_of(format)](format, map, numbers, n, symbols);
}

void split(const NumberFormat& format, const RawBits& raw, const std::uint8_t* numbers, std::size_t n,
           const Planes& planes) noexcept {
    kernels().split[index_of(format)](format, raw, numbers, n, nullptr, planes);
}

void split_all(const NumberFormat& format, const SymbolMap& map, const RawBits& raw,
               const std::uint8_t* numbers, std::size_t n, std::uint8_t* symbols,
               const Planes& planes) noexcept {
    if (map.escaped) {
        symbols_of(format, map, numbers, n, symbols);
        split(format, raw, numbers, n, planes);
        return;
    }
    kernels().split_all[index_of(format)](format, raw, numbers, n, symbols, planes);
}

void join(const NumberFormat& format, const SymbolMap& map, const RawBits& raw, const std::uint8_t* symbols,
          std::size_t n, const ConstPlanes& planes, std::uint8_t* numbers, Destination destination) noexcept {
    kernels().join[index_of(format)](format, map, raw, symbols, n, planes, numbers, destination);
}

void finish_memory() noexcept {
#if defined(__x86_64__)
    _mm_sfence();
#endif
}

void pack_bits(const std::uint8_t* values, std::size_t n, unsigned bits, std::uint8_t* out) noexcept {
    kernels().pack_bits(values, n, bits, out);
}

void unpack_bits(const std::uint8_t* in, std::size_t n, unsigned bits, std::uint8_t* values) noexcept {
    kernels().unpack_bits(in, n, bits, values);
}

}  // namespace nncodec::planes
