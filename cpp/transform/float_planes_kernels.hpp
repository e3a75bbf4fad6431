// The table of float-plane loops that each instruction set fills; used by float_planes.cpp alone.
#pragma once

#include "transform/float_planes.hpp"

namespace nncodec::planes {

// Arrays are indexed by the size of a number: 0: 2 bytes, 1: 4 bytes, 2: 8 bytes.
struct Kernels {
    using Symbols = std::uint64_t (*)(const NumberFormat&, const SymbolMap&, const std::uint8_t*, std::size_t,
                                      std::uint8_t*) noexcept;
    using Split = void (*)(const NumberFormat&, const RawBits&, const std::uint8_t*, std::size_t,
                           std::uint8_t*, const Planes&) noexcept;
    using Join = void (*)(const NumberFormat&, const SymbolMap&, const RawBits&, const std::uint8_t*,
                          std::size_t, const ConstPlanes&, std::uint8_t*, Destination) noexcept;
    using PackBits = void (*)(const std::uint8_t*, std::size_t, unsigned, std::uint8_t*) noexcept;

    std::array<Symbols, 3> symbols;
    std::array<Split, 3> split;      // `symbols` is not looked at
    std::array<Split, 3> split_all;  // plain symbol map
    std::array<Join, 3> join;
    PackBits pack_bits;
    PackBits unpack_bits;
};

extern const Kernels kScalarKernels;
#if defined(__x86_64__)
extern const Kernels kAvx2Kernels;
extern const Kernels kAvx512Kernels;
#endif

}  // namespace nncodec::planes
