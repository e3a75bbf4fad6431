// What each instruction set does for look-ups of 4-byte entries by byte indices; used by lookup.cpp alone.
#pragma once

#include <cstddef>
#include <cstdint>

namespace nncodec::lookup {

// `table` has 256 entries, of which the first `size` matter. Returns how many indices were done.
using Run4 = std::size_t (*)(const std::uint8_t* indices, std::size_t n, const std::uint8_t* table,
                             std::size_t size, std::uint8_t* out) noexcept;

#if defined(__x86_64__)
std::size_t run4_avx2(const std::uint8_t* indices, std::size_t n, const std::uint8_t* table, std::size_t size,
                      std::uint8_t* out) noexcept;
std::size_t run4_avx512(const std::uint8_t* indices, std::size_t n, const std::uint8_t* table,
                        std::size_t size, std::uint8_t* out) noexcept;
#endif

}  // namespace nncodec::lookup
