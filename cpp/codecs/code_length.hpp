// What an ideal coder would spend, for decisions of encoders. Integers only, so that every machine decides
// alike.
#pragma once

#include <array>
#include <bit>
#include <cstdint>
#include <span>

namespace nncodec {

inline constexpr unsigned kLogBits = 16;  // fraction bits of logarithms and code lengths below

namespace detail {

// log2(1 + i / 256) for i = 0 .. 256, by the classic squaring: each squaring of a number in [1, 2) yields one
// bit.
constexpr std::array<std::uint32_t, 257> make_log_table() {
    std::array<std::uint32_t, 257> table{};
    for (std::uint64_t i = 0; i < 256; ++i) {
        std::uint64_t x = (256 + i) << 22;  // 30 fraction bits
        std::uint32_t log = 0;
        for (unsigned bit = 0; bit < kLogBits; ++bit) {
            x = x * x >> 30;
            log <<= 1;
            if (x >> 31 != 0) {
                log |= 1;
                x >>= 1;
            }
        }
        table[i] = log;
    }
    table[256] = 1U << kLogBits;
    return table;
}
inline constexpr auto kLogTable = make_log_table();

}  // namespace detail

// log2(x) with kLogBits fraction bits, for 1 <= x; the error is below 2^-14.
constexpr std::uint64_t fixed_log2(std::uint64_t x) noexcept {
    const auto whole = static_cast<unsigned>(std::bit_width(x)) - 1;
    const std::uint64_t fraction = (x << (63 - whole) << 1) >> 40;  // 24 bits below the leading one
    const std::size_t i = fraction >> 16;
    const std::uint64_t rest = fraction & 0xFFFF;
    const std::uint64_t low = detail::kLogTable[i];
    return (static_cast<std::uint64_t>(whole) << kLogBits) + low +
           ((detail::kLogTable[i + 1] - low) * rest >> 16);
}

// Order-0 code length of symbols with these counts, in 2^-kLogBits bits. Right for fewer than 2^40 symbols.
template <typename Count>
std::uint64_t code_length(std::span<const Count> counts) noexcept {
    std::uint64_t total = 0;
    std::uint64_t saved = 0;
    for (const Count count : counts) {
        if (count == 0) continue;
        total += count;
        saved += count * fixed_log2(count);
    }
    if (total == 0) return 0;
    const std::uint64_t all = total * fixed_log2(total);
    return all > saved ? all - saved : 0;  // rounding may cross when one symbol has all counts
}

}  // namespace nncodec
