#include "quantize/lattice.hpp"

#include <algorithm>
#include <bit>
#include <vector>

#include "base/dispatch.hpp"
#include "quantize/lattice_impl.hpp"

namespace nncodec::lattice {

constinit const Kernels kScalarKernels = make_kernels();

namespace {

const Kernels& kernels() {
#if defined(__x86_64__)
    if (active_isa() == Isa::avx512) return kAvx512Kernels;
    if (active_isa() == Isa::avx2) return kAvx2Kernels;
#endif
    return kScalarKernels;
}

// Coordinates of the origin's box: cells of side kSide * axis scale repeat the lattice.
double box_side(Lattice lattice) noexcept {
    switch (lattice) {
        case Lattice::e8:
            return 2;
        case Lattice::leech:
            return 8;
        default:
            return 1;
    }
}

constexpr unsigned kGrainBits = 20;
constexpr unsigned kPerDraw = 3;

// Runs a kernel over blocks of vectors; the last one is filled up with zeros.
template <typename Load, typename Store>
void by_blocks(std::size_t vectors, std::size_t n, Kernels::Nearest kernel, Load&& load, Store&& store) {
    alignas(64) double in[kMaxDimension * kBlock];
    alignas(64) double out[kMaxDimension * kBlock];
    for (std::size_t first = 0; first < vectors; first += kBlock) {
        const std::size_t count = std::min(kBlock, vectors - first);
        if (count < kBlock) std::fill(in, in + kBlock * n, 0.0);
        load(first, count, in);
        kernel(in, out);
        store(first, count, in, out);
    }
}

}  // namespace

double natural_scale(Lattice lattice, std::size_t axis) noexcept {
    switch (lattice) {
        case Lattice::a2:  // 2^(1/2) 3^(-1/4), and 3^(1/2) times that
            return axis == 0 ? 1.0745699318235418 : 1.8612097182041991;
        case Lattice::d4:  // 2^(1/4)
            return 1.189207115002721;
        case Lattice::leech:  // 8^(-1/2)
            return 0.35355339059327379;
        default:
            return 1;
    }
}

void nearest(Lattice lattice, std::span<const double> x, std::span<double> points) {
    const std::size_t n = dimension(lattice);
    by_blocks(
        x.size() / n, n, kernels().of[static_cast<std::size_t>(lattice)],
        [&](std::size_t first, std::size_t count, double* in) {
            const double* from = x.data() + first * n;
            for (std::size_t v = 0; v < count; ++v) {
                for (std::size_t i = 0; i < n; ++i) in[kBlock * i + v] = from[v * n + i];
            }
        },
        [&](std::size_t first, std::size_t count, const double*, const double* out) {
            double* to = points.data() + first * n;
            for (std::size_t v = 0; v < count; ++v) {
                for (std::size_t i = 0; i < n; ++i) to[v * n + i] = out[kBlock * i + v];
            }
        });
}

std::uint64_t random_bits(std::uint64_t key, std::uint64_t counter) noexcept {
    std::uint64_t x = key + (counter + 1) * 0x9E3779B97F4A7C15U;
    x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9U;
    x = (x ^ (x >> 27)) * 0x94D049BB133111EBU;
    return x ^ (x >> 31);
}

void dither(Lattice lattice, std::uint64_t key, std::uint64_t first_vector, std::span<double> out) {
    const std::size_t n = dimension(lattice);
    const std::uint64_t draws = (n + kPerDraw - 1) / kPerDraw;
    const double grain = box_side(lattice) * (1.0 / (1U << kGrainBits));
    by_blocks(
        out.size() / n, n, kernels().of[static_cast<std::size_t>(lattice)],
        [&](std::size_t first, std::size_t count, double* in) {
            for (std::size_t v = 0; v < count; ++v) {
                for (std::uint64_t d = 0; d < draws; ++d) {
                    std::uint64_t bits = random_bits(key, (first_vector + first + v) * draws + d);
                    for (std::size_t i = kPerDraw * d; i < std::min<std::size_t>(n, kPerDraw * (d + 1));
                         ++i) {
                        const auto whole = static_cast<double>(bits & ((1U << kGrainBits) - 1));
                        in[kBlock * i + v] = (whole + 0.5) * grain;
                        bits >>= kGrainBits;
                    }
                }
            }
        },
        [&](std::size_t first, std::size_t count, const double* in, const double* points) {
            double* to = out.data() + first * n;
            for (std::size_t v = 0; v < count; ++v) {
                for (std::size_t i = 0; i < n; ++i)
                    to[v * n + i] = in[kBlock * i + v] - points[kBlock * i + v];
            }
        });
}

std::uint32_t golay_word(std::uint32_t bits) noexcept {
    const unsigned parity = bits & 1;
    const auto& digits = kHexacode[(bits >> 1) & 63];
    unsigned tops = (bits >> 7) & 31;
    tops |= ((static_cast<unsigned>(std::popcount(tops)) & 1) ^ parity) << 5;
    std::uint32_t word = 0;
    for (unsigned c = 0; c < 6; ++c) {
        word |= std::uint32_t{column_bits(parity, digits[c], (tops >> c) & 1)} << (4 * c);
    }
    return word;
}

Axes::Axes(Lattice lattice, std::uint32_t coset) noexcept : lattice_(lattice), coset_(coset) {
    if (lattice == Lattice::leech) {
        word_ = golay_word(coset >> 1);
        parity_ = coset & 1;
    }
}

unsigned Axes::kind() const noexcept {
    switch (lattice_) {
        case Lattice::z:
            return 0;
        case Lattice::e8:
            return axis_ + 1 < 8 ? 2 * coset_ : 4 + 4 * parity_ + 2 * coset_;
        case Lattice::leech: {
            const unsigned add = (coset_ & 1) + 2 * ((word_ >> axis_) & 1);
            return axis_ + 1 < 24 ? add : 4 + 4 * parity_ + add;
        }
        default:
            return 2 * coset_;
    }
}

void Axes::take(std::int64_t integer) noexcept {
    parity_ ^= static_cast<unsigned>(integer & 1);
    ++axis_;
}

Code code_of(Lattice lattice, std::span<const double> point) noexcept {
    Code code;
    const auto as_integer = [](double x) { return static_cast<std::int64_t>(x); };
    if (lattice == Lattice::leech) {
        const auto m = static_cast<std::uint32_t>(as_integer(point[0]) & 1);
        std::uint32_t digits = 0;
        std::uint32_t tops = 0;
        std::uint32_t parity = 0;
        for (unsigned c = 0; c < 5; ++c) {
            unsigned column = 0;
            for (unsigned r = 0; r < 4; ++r) {
                column |= static_cast<unsigned>((as_integer(point[4 * c + r]) - m) >> 1 & 1) << r;
            }
            tops |= (column & 1) << c;
            parity = static_cast<std::uint32_t>(std::popcount(column)) & 1;
            const unsigned digit = ((column >> 1) & 1) ^ (((column >> 2) & 1) * 2) ^ ((column >> 3) * 3);
            if (c < 3) digits = 4 * digits + digit;
        }
        code.coset = m | parity << 1 | digits << 2 | tops << 8;
    } else if (lattice != Lattice::z) {
        code.coset = static_cast<std::uint32_t>(as_integer(2 * point[0]) & 1);
    }
    Axes axes(lattice, code.coset);
    const double quarters_per_unit = lattice == Lattice::leech ? 1 : 4;
    for (std::size_t i = 0; i < dimension(lattice); ++i) {
        const unsigned kind = axes.kind();
        const std::int64_t quarter = as_integer(point[i] * quarters_per_unit);
        const std::int64_t integer = kind < 4 ? (quarter - kind) >> 2 : (quarter - (kind - 4)) >> 3;
        code.integer[i] = static_cast<std::int32_t>(integer);
        axes.take(integer);
    }
    return code;
}

double coordinate(Lattice lattice, unsigned kind, std::int64_t integer) noexcept {
    const auto quarter = static_cast<double>(quarters(kind, integer));
    return lattice == Lattice::leech ? quarter : quarter * 0.25;
}

}  // namespace nncodec::lattice
