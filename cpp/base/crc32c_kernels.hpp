// What crc32c.cpp and its kernels share.
#pragma once

#include <cstddef>
#include <cstdint>

namespace nncodec {

inline constexpr std::uint32_t kCrcPolynomial = 0x82F63B78;  // 0x1EDC6F41 with its bits reversed

// The register after the first n / 64 * 64 bytes, from `crc` on (no inversions here). n is at least 256.
std::uint32_t crc_fold_avx512(const std::uint8_t* p, std::size_t n, std::uint32_t crc) noexcept;

}  // namespace nncodec
