// The scan of a Bloomier table that each instruction set fills; used by bloomier.cpp alone.
#pragma once

#include "retrieval/bloomier.hpp"

namespace nncodec::bloomier {

// Bytes that a scan may read beyond the table.
inline constexpr std::size_t kPadding = 8;

struct Scan {
    Shape shape;
    std::uint64_t state;
    const std::uint8_t* table;  // padded
    Key first, end;
    std::uint32_t limit;
};

using HitsKernel = void (*)(const Scan& scan, std::vector<Hit>& out);

#if defined(__x86_64__)
void hits_avx512(const Scan& scan, std::vector<Hit>& out);
#endif

}  // namespace nncodec::bloomier
