// What statistics of levels need of each element, block by block. Plain pointers only, as in other vector
// kernels.
#pragma once

#include <cstddef>
#include <cstdint>

namespace nncodec::trellis_codec {

inline constexpr std::size_t kTallyBlock = 512;  // elements
inline constexpr std::size_t kTallySide = 16;    // sums of squares: their order is part of the result

struct TallyInput {
    const float* values;
    const std::int16_t* levels;
    const std::uint8_t* unions;
    const std::uint8_t* sums;
    std::uint32_t first_sum;
    float scale;  // 1 over the step
};

struct TallyBlock {
    alignas(64) std::uint32_t index[kTallyBlock];  // ((sum - first_sum) * 2 + union) * 256 + symbol
    alignas(64) std::int32_t error[kTallyBlock];   // in 1/4096 step, cut off at 64 steps
};

// A whole block in the plain alphabet. Adds square k of each 16 to squares[k]. False, and nothing done, if
// a level has no symbol of its own.
bool tally_block_avx512(const TallyInput& in, TallyBlock& out, double* squares) noexcept;

}  // namespace nncodec::trellis_codec
