// The loops themselves, compiled once per instruction set. Every lane does the same operations in the same
// order, so that all instruction sets give the same bits.
#pragma once

#include <cstring>

#include "quantize/golay.hpp"
#include "quantize/lattice_kernels.hpp"

namespace nncodec::lattice {
namespace {

// Vectors of the compiler, as wide as the instruction set's. Comparisons give lanes of all ones.
#if defined(__AVX512F__)
constexpr std::size_t kLanes = 8;
#elif defined(__AVX2__)
constexpr std::size_t kLanes = 4;
#else
constexpr std::size_t kLanes = 2;
#endif
typedef double Doubles __attribute__((vector_size(8 * kLanes)));
typedef std::int64_t Mask __attribute__((vector_size(8 * kLanes)));
static_assert(kBlock % kLanes == 0);

inline Doubles load(const double* from) noexcept {
    Doubles v;
    std::memcpy(&v, from, sizeof v);
    return v;
}

inline void store(double* to, const Doubles& v) noexcept {
    std::memcpy(to, &v, sizeof v);
}

// To the nearest integer, ties to even, for magnitudes below 2^51.
inline Doubles round(const Doubles& x) noexcept {
    constexpr double kMagic = 0x1.8p52;
    return (x + kMagic) - kMagic;
}

inline Doubles smaller(const Doubles& a, const Doubles& b) noexcept {
    return b < a ? b : a;
}

inline Doubles splat(double x) noexcept {
    return Doubles{} + x;
}

template <std::size_t N>
inline Doubles distance(const Doubles* x, const Doubles* point, const double* weight) noexcept {
    Doubles sum{};
    for (std::size_t i = 0; i < N; ++i) {
        const Doubles e = x[i] - point[i];
        const Doubles square = e * e;
        sum = i == 0 ? square * weight[i] : sum + square * weight[i];
    }
    return sum;
}

void nearest_z(const double* x, double* points) {
    store(points, round(load(x)));
}

// Integers, or all coordinates halves of odd numbers; weight of each axis in the squared distance.
template <std::size_t N>
void nearest_of_two(const double* x, double* points, const double* weight) noexcept {
    Doubles in[N];
    Doubles whole[N];
    Doubles half[N];
    for (std::size_t i = 0; i < N; ++i) {
        in[i] = load(x + kBlock * i);
        whole[i] = round(in[i]);
        half[i] = round(in[i] - 0.5) + 0.5;
    }
    const Mask use_half = distance<N>(in, half, weight) < distance<N>(in, whole, weight);
    for (std::size_t i = 0; i < N; ++i) store(points + kBlock * i, use_half ? half[i] : whole[i]);
}

void nearest_a2(const double* x, double* points) {
    constexpr double kWeight[2] = {1, 3};
    nearest_of_two<2>(x, points, kWeight);
}

void nearest_d4(const double* x, double* points) {
    constexpr double kWeight[4] = {1, 1, 1, 1};
    nearest_of_two<4>(x, points, kWeight);
}

// The nearest integers of even sum: where the sum is odd, the first of the coordinates that are furthest from
// their integer goes to its other neighbour.
inline void nearest_d8(const Doubles* x, Doubles* point) noexcept {
    Doubles sum{};
    Doubles furthest = splat(-1);
    for (std::size_t i = 0; i < 8; ++i) {
        point[i] = round(x[i]);
        sum = i == 0 ? point[i] : sum + point[i];
        const Doubles e = x[i] - point[i];
        const Doubles a = e < 0.0 ? -e : e;
        furthest = a > furthest ? a : furthest;
    }
    Mask wrong = round(sum * 0.5) * 2.0 != sum;
    for (std::size_t i = 0; i < 8; ++i) {
        const Doubles e = x[i] - point[i];
        const Doubles a = e < 0.0 ? -e : e;
        const Mask here = wrong & (a == furthest);
        const Doubles towards = e < 0.0 ? splat(-1) : splat(1);
        point[i] = here ? point[i] + towards : point[i];
        wrong = wrong & ~here;
    }
}

void nearest_e8(const double* x, double* points) {
    constexpr double kWeight[8] = {1, 1, 1, 1, 1, 1, 1, 1};
    Doubles in[8];
    Doubles shifted[8];
    Doubles whole[8];
    Doubles half[8];
    for (std::size_t i = 0; i < 8; ++i) {
        in[i] = load(x + kBlock * i);
        shifted[i] = in[i] - 0.5;
    }
    nearest_d8(in, whole);
    nearest_d8(shifted, half);
    for (std::size_t i = 0; i < 8; ++i) half[i] = half[i] + 0.5;
    const Mask use_half = distance<8>(in, half, kWeight) < distance<8>(in, whole, kWeight);
    for (std::size_t i = 0; i < 8; ++i) store(points + kBlock * i, use_half ? half[i] : whole[i]);
}

// Leech. For each coordinate and each bit of its codeword: the nearest number of the form m + 2 bit + 4 z,
// its squared error, the parity of z, and by how much the second nearest (whose z has the other parity) is
// worse.
struct Coordinate {
    Doubles cost[2];
    Doubles more[2];
    Mask odd[2];
};

inline Coordinate coordinate_costs(const Doubles& x, double m) noexcept {
    Coordinate c;
    for (unsigned bit = 0; bit < 2; ++bit) {
        const Doubles r = (x - (m + 2.0 * bit)) * 0.25;
        const Doubles z = round(r);
        const Doubles e = r - z;
        const Doubles a = e < 0.0 ? -e : e;
        c.cost[bit] = e * e;
        c.more[bit] = 1.0 - (a + a);
        c.odd[bit] = round(z * 0.5) * 2.0 != z;
    }
    return c;
}

// Costs of a column with a digit: for each top bit h and parity k of the sum of its z.
struct Cell {
    Doubles of[2][2];
};

inline Cell column_cell(const Coordinate* column, unsigned parity, unsigned digit) noexcept {
    Cell cell;
    for (unsigned h = 0; h < 2; ++h) {
        const unsigned bits = column_bits(parity, digit, h);
        const unsigned b0 = bits & 1;
        const unsigned b1 = (bits >> 1) & 1;
        const unsigned b2 = (bits >> 2) & 1;
        const unsigned b3 = bits >> 3;
        const Doubles cost =
            (column[0].cost[b0] + column[1].cost[b1]) + (column[2].cost[b2] + column[3].cost[b3]);
        const Doubles more = smaller(smaller(column[0].more[b0], column[1].more[b1]),
                                     smaller(column[2].more[b2], column[3].more[b3]));
        const Mask odd = column[0].odd[b0] ^ column[1].odd[b1] ^ column[2].odd[b2] ^ column[3].odd[b3];
        const Doubles other = cost + more;
        cell.of[h][0] = odd ? other : cost;
        cell.of[h][1] = odd ? cost : other;
    }
    return cell;
}

inline Cell join(const Cell& a, const Cell& b) noexcept {
    Cell joined;
    for (unsigned h = 0; h < 2; ++h) {
        for (unsigned k = 0; k < 2; ++k) {
            joined.of[h][k] = smaller(smaller(a.of[0][0] + b.of[h][k], a.of[0][1] + b.of[h][k ^ 1]),
                                      smaller(a.of[1][0] + b.of[h ^ 1][k], a.of[1][1] + b.of[h ^ 1][k ^ 1]));
        }
    }
    return joined;
}

// Which coset of (2 Z)^24 is best: 128 m + 64 parity + hexacode word, per vector.
inline Mask best_coset(const Doubles* x) noexcept {
    Doubles best = splat(1e300);
    Mask chosen{};
    for (unsigned m = 0; m < 2; ++m) {
        Coordinate coordinates[24];
        for (unsigned i = 0; i < 24; ++i) coordinates[i] = coordinate_costs(x[i], m);
        for (unsigned parity = 0; parity < 2; ++parity) {
            Cell cells[6][4];
            for (unsigned c = 0; c < 6; ++c) {
                for (unsigned d = 0; d < 4; ++d) cells[c][d] = column_cell(coordinates + 4 * c, parity, d);
            }
            Cell pairs[3][16];
            for (unsigned p = 0; p < 3; ++p) {
                for (unsigned d = 0; d < 16; ++d)
                    pairs[p][d] = join(cells[2 * p][d / 4], cells[2 * p + 1][d % 4]);
            }
            for (unsigned w = 0; w < 64; ++w) {
                const auto& word = kHexacode[w];
                const Cell four = join(pairs[0][4 * word[0] + word[1]], pairs[1][4 * word[2] + word[3]]);
                const Cell& two = pairs[2][4 * word[4] + word[5]];
                const Doubles total =
                    smaller(smaller(four.of[0][0] + two.of[parity][m], four.of[0][1] + two.of[parity][m ^ 1]),
                            smaller(four.of[1][0] + two.of[parity ^ 1][m],
                                    four.of[1][1] + two.of[parity ^ 1][m ^ 1]));
                const Mask better = total < best;
                best = better ? total : best;
                chosen = better ? Mask{} + static_cast<std::int64_t>(128 * m + 64 * parity + w) : chosen;
            }
        }
    }
    return chosen;
}

// The way through the columns of one vector: the first of the cheapest (h, k) of each in turn. x[axis] is
// strided.
inline void nearest_in_coset(const double* x, unsigned coset, double* point) noexcept {
    const unsigned m = coset / 128;
    const unsigned parity = coset / 64 % 2;
    const auto& word = kHexacode[coset % 64];
    double z[24][2];
    double error[24][2];
    double cost[6][2][2];
    double more[6][2];
    unsigned weakest[6][2];
    unsigned odd[6][2];
    for (unsigned c = 0; c < 6; ++c) {
        for (unsigned h = 0; h < 2; ++h) {
            const unsigned bits = column_bits(parity, word[c], h);
            double part[4];
            double least[4];
            odd[c][h] = 0;
            for (unsigned r = 0; r < 4; ++r) {
                const unsigned i = 4 * c + r;
                const double v = (x[kBlock * i] - (m + 2.0 * ((bits >> r) & 1))) * 0.25;
                z[i][h] = (v + 0x1.8p52) - 0x1.8p52;
                error[i][h] = v - z[i][h];
                const double a = error[i][h] < 0 ? -error[i][h] : error[i][h];
                part[r] = error[i][h] * error[i][h];
                least[r] = 1.0 - (a + a);
                odd[c][h] ^= static_cast<unsigned>(static_cast<std::int64_t>(z[i][h]) & 1);
            }
            weakest[c][h] = 0;
            for (unsigned r = 1; r < 4; ++r) {
                if (least[r] < least[weakest[c][h]]) weakest[c][h] = r;
            }
            more[c][h] = least[weakest[c][h]];
            const double sum = (part[0] + part[1]) + (part[2] + part[3]);
            cost[c][h][odd[c][h]] = sum;
            cost[c][h][odd[c][h] ^ 1] = sum + more[c][h];
        }
    }
    // Least cost of columns c .. 5 for what they must add up to, by the same grouping as above: (0 1)(2 3)(4
    // 5).
    double pair[3][2][2];
    for (unsigned p = 0; p < 3; ++p) {
        for (unsigned h = 0; h < 2; ++h) {
            for (unsigned k = 0; k < 2; ++k) {
                pair[p][h][k] = 1e300;
                for (unsigned s = 0; s < 4; ++s) {
                    const double sum = cost[2 * p][s / 2][s % 2] + cost[2 * p + 1][h ^ (s / 2)][k ^ (s % 2)];
                    if (sum < pair[p][h][k]) pair[p][h][k] = sum;
                }
            }
        }
    }
    double four[2][2];
    unsigned first_pair[2][2] = {};
    for (unsigned h = 0; h < 2; ++h) {
        for (unsigned k = 0; k < 2; ++k) {
            four[h][k] = 1e300;
            for (unsigned s = 0; s < 4; ++s) {
                const double sum = pair[0][s / 2][s % 2] + pair[1][h ^ (s / 2)][k ^ (s % 2)];
                if (sum < four[h][k]) {
                    four[h][k] = sum;
                    first_pair[h][k] = s;
                }
            }
        }
    }
    unsigned head = 0;
    double least = 1e300;
    for (unsigned s = 0; s < 4; ++s) {
        const double sum = four[s / 2][s % 2] + pair[2][parity ^ (s / 2)][m ^ (s % 2)];
        if (sum < least) {
            least = sum;
            head = s;
        }
    }
    const unsigned of_first = first_pair[head / 2][head % 2];
    const unsigned of_pair[3] = {of_first, head ^ of_first, 2 * (parity ^ (head / 2)) + (m ^ (head % 2))};
    for (unsigned p = 0; p < 3; ++p) {
        unsigned left = 0;
        double lowest = 1e300;
        for (unsigned s = 0; s < 4; ++s) {
            const unsigned right = of_pair[p] ^ s;
            const double sum = cost[2 * p][s / 2][s % 2] + cost[2 * p + 1][right / 2][right % 2];
            if (sum < lowest) {
                lowest = sum;
                left = s;
            }
        }
        const unsigned states[2] = {left, of_pair[p] ^ left};
        for (unsigned side = 0; side < 2; ++side) {
            const unsigned c = 2 * p + side;
            const unsigned h = states[side] / 2;
            const unsigned bits = column_bits(parity, word[c], h);
            for (unsigned r = 0; r < 4; ++r) {
                const unsigned i = 4 * c + r;
                double value = z[i][h];
                if ((states[side] % 2) != odd[c][h] && r == weakest[c][h]) value += error[i][h] < 0 ? -1 : 1;
                point[kBlock * i] = m + 2.0 * ((bits >> r) & 1) + 4.0 * value;
            }
        }
    }
}

void nearest_leech(const double* x, double* points) {
    Doubles in[24];
    for (std::size_t i = 0; i < 24; ++i) in[i] = load(x + kBlock * i);
    const Mask chosen = best_coset(in);
    for (std::size_t v = 0; v < kLanes; ++v)
        nearest_in_coset(x + v, static_cast<unsigned>(chosen[v]), points + v);
}

// All vectors of a block, kLanes at a time.
template <void (*kSome)(const double*, double*)>
void over_block(const double* x, double* points) noexcept {
    for (std::size_t v = 0; v < kBlock; v += kLanes) kSome(x + v, points + v);
}

constexpr Kernels make_kernels() noexcept {
    return {{over_block<nearest_z>, over_block<nearest_a2>, over_block<nearest_d4>, over_block<nearest_e8>,
             over_block<nearest_leech>}};
}

}  // namespace
}  // namespace nncodec::lattice
