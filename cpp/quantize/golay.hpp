// The hexacode and its place in the Golay code, as tables made at compile time. See docs/format.md#lattices
#pragma once

#include <array>
#include <bit>
#include <cstdint>

namespace nncodec::lattice {

// GF(4) as 0, 1, 2 = w, 3 = w + 1; addition is exclusive or.
constexpr unsigned gf4_times(unsigned a, unsigned b) noexcept {
    if (a == 0 || b == 0) return 0;
    return (a - 1 + b - 1) % 3 + 1;
}

// Word number 16 a + 4 b + c: the digits a, b, c and the values of a x^2 + b x + c at 1, w, w^2.
constexpr std::array<std::array<std::uint8_t, 6>, 64> make_hexacode() {
    std::array<std::array<std::uint8_t, 6>, 64> words{};
    for (unsigned i = 0; i < 64; ++i) {
        const unsigned a = i / 16;
        const unsigned b = i / 4 % 4;
        const unsigned c = i % 4;
        words[i] = {static_cast<std::uint8_t>(a), static_cast<std::uint8_t>(b), static_cast<std::uint8_t>(c)};
        for (unsigned x = 1; x < 4; ++x) {
            words[i][2 + x] = static_cast<std::uint8_t>(gf4_times(a, gf4_times(x, x)) ^ gf4_times(b, x) ^ c);
        }
    }
    return words;
}
inline constexpr auto kHexacode = make_hexacode();

// The four bits of a column (bit r: row r) of parity p, digit d and top bit h: exactly one.
constexpr std::array<std::uint8_t, 16> make_columns() {
    std::array<std::uint8_t, 16> columns{};
    for (unsigned bits = 0; bits < 16; ++bits) {
        const unsigned digit = ((bits >> 1) & 1) ^ (((bits >> 2) & 1) * 2) ^ (((bits >> 3) & 1) * 3);
        const unsigned parity = static_cast<unsigned>(std::popcount(bits)) & 1;
        columns[8 * parity + 2 * digit + (bits & 1)] = static_cast<std::uint8_t>(bits);
    }
    return columns;
}
inline constexpr auto kColumns = make_columns();

constexpr unsigned column_bits(unsigned parity, unsigned digit, unsigned top) noexcept {
    return kColumns[8 * parity + 2 * digit + top];
}

}  // namespace nncodec::lattice
