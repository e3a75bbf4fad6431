// The logistic function and its inverse in integers. Tables: docs/format.md#adaptive-binary-range-coder
//
// The tables are built by an integer recurrence, never by the C library, so that they are the same
// everywhere.
#pragma once

#include <cstdint>

namespace nncodec::range {

inline constexpr std::int32_t kMaxStretch = 12 * 256 - 1;

struct LogisticTables {
    std::uint16_t squash[2 * kMaxStretch + 1];
    std::int16_t stretch[4096];
};
extern const LogisticTables kLogistic;

// 65536 / (1 + exp(-x / 256)), in [1, 65535]; |x| <= kMaxStretch.
inline std::uint32_t squash(std::int32_t x) noexcept {
    return kLogistic.squash[x + kMaxStretch];
}

// 256 ln(p / (65536 - p)), seen through the top 12 bits of p.
inline std::int32_t stretch(std::uint32_t p) noexcept {
    return kLogistic.stretch[p >> 4];
}

}  // namespace nncodec::range
