// 3LC's zero-run coding of base-3^5 bytes. Bytes: docs/format.md#zero-runs
//
// What surprises: it never expands, so the encoder needs no more room than its input; the decoder writes
// whole words, so its output needs kZeroRunSlack bytes of room beyond the end.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "base/error.hpp"

namespace nncodec::zero_run {

inline constexpr std::uint8_t kZero = 121;
inline constexpr std::uint8_t kFirstRun = 243;  // stands for two zeros, 255 for fourteen
inline constexpr std::size_t kShortestRun = 2;
inline constexpr std::size_t kLongestRun = 14;
inline constexpr std::size_t kSlack = 16;

// Encodes `in`, bytes of at most 242, to `out`, which has room for as many; returns how many it wrote. `out`
// may be the start of `in`.
std::size_t encode(std::span<const std::uint8_t> in, std::uint8_t* out) noexcept;

// Fills `out` from `in`, which is untrusted: `truncated` when it gives fewer bytes, `corrupt` when it gives
// more. kSlack bytes beyond out.size() are written to. What comes out is never above 242.
Status decode(std::span<const std::uint8_t> in, std::span<std::uint8_t> out) noexcept;

}  // namespace nncodec::zero_run
