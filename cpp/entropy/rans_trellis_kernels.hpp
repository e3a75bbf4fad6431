// A block of up to kBlockSteps steps of all lanes, for the kernels of all instruction sets. Plain pointers
// only: the files of vector kernels must not emit inline functions of the standard library.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace nncodec::rans {

inline constexpr unsigned kBlockLanes = 64;
inline constexpr std::size_t kBlockSteps = 16;

struct TrellisTables {
    std::vector<std::uint32_t> slots;  // 4096 per table: (frequency - 1) << 20 | place << 8 | symbol
    std::vector<float> points;         // 256 per table
    std::size_t n_tables = 0;
};

struct TrellisBlock {
    const std::uint32_t* slots;
    const float* points;
    std::uint32_t h0;  // h0 >> 1 and h1 >> 1 of the code
    std::uint32_t h1;
    const std::uint8_t* words;  // next word of the stream
    const std::uint8_t* end;
    alignas(64) std::uint32_t rans[kBlockLanes];
    alignas(64) std::uint32_t state[kBlockLanes];  // of the trellis
    alignas(64) std::uint8_t contexts[kBlockSteps * kBlockLanes];
    alignas(64) float values[kBlockSteps * kBlockLanes];
};

// Decodes `steps` steps of the first `lanes` lanes into rows of kBlockLanes values. False if the stream ends
// too soon.
bool decode_block_scalar(TrellisBlock& block, std::size_t steps, unsigned lanes) noexcept;
// The same as far as whole vectors of words can be read; returns the steps done.
std::size_t decode_block_avx512(TrellisBlock& block, std::size_t steps, unsigned lanes) noexcept;

}  // namespace nncodec::rans
