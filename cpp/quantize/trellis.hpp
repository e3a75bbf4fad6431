// Trellis-coded quantisation, entropy-coded. Values: docs/format.md#trellis-quantisation
//
// What surprises: a level means nothing without the state that it is met in. The state's lowest bit picks one
// of two union quantisers (even points of the grid, odd points), the level names a point of that union, and
// the level's parity moves the state. So the decoder needs no table: five integer operations a weight,
// whatever the number of states. All the cost is the encoder's, which looks for the sequence of levels with
// the least
//     squared error + lambda * bits(level | context, union)
// by the Viterbi algorithm. A sequence is dealt out to lanes, element i to lane i mod N, that each start in
// state 0; the kernels work on 32 lanes at a time. All costs are integers, so every instruction set finds the
// same path.
//
// Sources: Ungerboeck, IEEE Communications Magazine 25(2), 1987 (codes); Marcellin and Fischer, IEEE Trans.
// Commun. 38(1), 1990 (trellis-coded quantisation); Fischer and Wang, IEEE Trans. Inf. Theory 38(2), 1992
// (entropy-coded).
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <vector>

namespace nncodec::trellis {

// Parity-check polynomials of a rate-1/2 code, bit i the coefficient of D^i.
struct Code {
    unsigned states = 0;
    unsigned h0 = 0;
    unsigned h1 = 0;

    // The union quantiser of a state: 0 even points of the grid, 1 odd ones.
    static constexpr unsigned union_of(unsigned state) noexcept { return state & 1; }
    constexpr unsigned next(unsigned state, unsigned parity) const noexcept {
        return (state >> 1) ^ ((state & 1) != 0 ? h0 >> 1 : 0) ^ (parity != 0 ? h1 >> 1 : 0);
    }
};

// The code of 8 states is Ungerboeck's; the larger ones were searched for the least distance to R(D) of a
// Gaussian source at 2 bits, which is not what Ungerboeck's tables maximise (the free distance on a noisy
// channel).
inline constexpr std::array<Code, 8> kCodes{{{8, 013, 04},
                                             {16, 031, 012},
                                             {32, 043, 024},
                                             {64, 0127, 042},
                                             {128, 0253, 0136},
                                             {256, 0523, 0212},
                                             {512, 01263, 0326},
                                             {1024, 02033, 01456}}};

// Throws ArgumentError unless `states` is a power of two from 8 to 1024.
const Code& code_of(unsigned states);

// Which point of the grid (in steps) a level of a union means.
//   plain:      2 * level + union
//   both_zero:  2 * level - union * sign(level): a zero in both unions, for peaked and sparse sources at low
//   rates
enum class Alphabet : std::uint8_t { plain = 0, both_zero = 1 };

constexpr int point_of(Alphabet alphabet, unsigned union_index, int level) noexcept {
    if (union_index == 0) return 2 * level;
    if (alphabet == Alphabet::plain) return 2 * level + 1;
    return 2 * level - (level > 0 ? 1 : level < 0 ? -1 : 0);
}

inline constexpr unsigned kLaneGroup = 32;  // lanes that a kernel advances together
inline constexpr std::size_t kMaxLanes = 1024;
inline constexpr std::size_t kMaxPiece = 1 << 16;        // elements per lane: bounds the encoder's memory
inline constexpr std::size_t kMaxPieceStates = 1 << 24;  // elements per lane times states, likewise
inline constexpr int kMaxRadius = 16380;
inline constexpr std::size_t kMaxContexts = 256;

// Elements per lane where lanes are contiguous pieces of whole units: lane j holds elements j * piece up to
// (j + 1) * piece; the last ones may be short or empty.
constexpr std::size_t piece_of(std::size_t n, std::size_t lanes, std::size_t unit = 1) noexcept {
    const std::size_t units = (n + unit - 1) / unit;
    return (units + lanes - 1) / lanes * unit;
}

struct Options {
    unsigned states = 8;
    Alphabet alphabet = Alphabet::plain;
    // lambda / step^2 in 1/65536; 0 minimises squared error alone. The default is 0.8 times the slope of an
    // ideal quantiser of this step (2 ln 2 / 3), which was best on Gaussian sources from 1 to 4 bits; lower
    // rates want more.
    std::uint32_t lambda = 24227;
};

// Levels run from -radius to radius; tables over them have 2 * radius + 1 entries.
// A set of tables is an array [context][union][level + radius].
struct TableShape {
    std::size_t contexts = 1;
    int radius = 3;  // at least 3

    std::size_t width() const noexcept { return 2 * static_cast<std::size_t>(radius) + 1; }
    std::size_t size() const noexcept { return contexts * 2 * width(); }
};

// Finds levels. Immutable once built, shared by threads.
class Quantiser {
  public:
    // `costs`: the price of each level in 1/256 bit, shape.size() of them. Throws ArgumentError on bad
    // shapes.
    Quantiser(const Options& options, const TableShape& shape, std::span<const std::uint16_t> costs);

    // values[i] is coded with the tables of contexts[i] (empty: all 0). Levels come out in the order of the
    // values. Values are taken in multiples of `step` and clamped to what the radius reaches; they should be
    // finite, and a not-a-number counts as -infinity. `unions`, unless empty, gets the union that each level
    // is met in. Throws ArgumentError when sizes differ, a context has no tables, the step is not positive
    // and normal, or a lane is longer than kMaxPiece or kMaxPieceStates. Takes (states * 4 + 104) bytes of
    // memory per element of a lane for a while.
    void quantise(std::span<const float> values, float step, std::span<const std::uint8_t> contexts,
                  std::size_t lanes, std::span<std::int16_t> levels,
                  std::span<std::uint8_t> unions = {}) const;

  private:
    Code code_;
    Alphabet alphabet_;
    TableShape shape_;
    std::vector<std::uint16_t> rates_;  // costs times lambda, in the units of the branch metrics
};

// Reconstruction points in 1/256 step: 256 * point_of(level), plus offsets[context][union][level + reach] for
// levels from -reach to reach (reach = offset_radius): centroids. `offsets` is empty for none.
struct Points {
    Alphabet alphabet = Alphabet::plain;
    std::size_t contexts = 1;
    int reach = 0;
    std::span<const std::int16_t> offsets;  // [context][union][2 * reach + 1]
};

// values[i] = float(points in 1/256 step) * (step / 256): one rounding, the same everywhere.
// Levels may be any int16; contexts (empty: all 0) must be below points.contexts.
void dequantise(std::span<const std::int16_t> levels, const Code& code, const Points& points, float step,
                std::span<const std::uint8_t> contexts, std::size_t lanes, std::span<float> values);

// How often each level was chosen, and how far the values lay from its point: for the next iteration's costs
// and for the centroids.
struct Statistics {
    std::vector<std::uint64_t> counts;  // TableShape::size() entries
    std::vector<std::int64_t> errors;   // sum of (value - point) in 1/256 step, same shape
    std::uint64_t squared_error = 0;    // of these levels without centroids, in (step / 256)^2
};

// Adds to `into` (sized by the first call). Levels must lie within the shape's radius: ArgumentError if not.
void accumulate(std::span<const float> values, std::span<const std::int16_t> levels, const Code& code,
                Alphabet alphabet, float step, std::span<const std::uint8_t> contexts, std::size_t lanes,
                const TableShape& shape, Statistics& into);

// The mean error of each level up to `reach`, rounded: offsets for Points, [context][union][2 * reach + 1].
// Levels seen less than 8 times get 0.
std::vector<std::int16_t> centroids(const Statistics& statistics, const TableShape& shape, int reach);

// -log2(count / sum) per table in 1/256 bit, capped at 24 bits; each level counts half an occurrence more
// than it had, so that none is out of reach. Integers only.
std::vector<std::uint16_t> costs_of(std::span<const std::uint64_t> counts, const TableShape& shape);

}  // namespace nncodec::trellis
