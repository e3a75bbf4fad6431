#include "entropy/ternary_rans.hpp"

#include <algorithm>
#include <array>
#include <bit>
#include <string>
#include <vector>

#include "base/bits.hpp"

namespace nncodec::ternary_rans {
namespace {

constexpr std::uint32_t kLowest = 1U << 16;  // states lie in [kLowest, 2^32)
constexpr std::uint32_t kSlots = 1U << kProbBits;
constexpr unsigned kZeroByte = 121;
constexpr std::size_t kMaxLanes = std::size_t{1} << kMaxLanesLog2;

// --- densities and tables

// Shares of digits that are not zero, times 2^32: from 31/32 down by a quarter of an octave each.
constexpr std::array<std::uint64_t, kDensities> make_densities() noexcept {
    std::array<std::uint64_t, kDensities> densities{};
    std::uint64_t density = std::uint64_t{31} << 27;
    for (std::uint64_t& d : densities) {
        d = density;
        density = density * 55109 >> 16;  // 2^-1/4
    }
    return densities;
}
constexpr auto kDensity = make_densities();

struct Table {
    std::array<std::uint16_t, kPatterns> start;
    std::array<std::uint16_t, kPatterns> frequency;
};

// Patterns of j digits that are not zero all have the frequency of such a pattern, rounded down but at least
// 1; the likelier of the patterns of none and of all takes what is left.
Table make_table(unsigned density) noexcept {
    const std::uint64_t other = kDensity[density];
    const std::uint64_t zero = (std::uint64_t{1} << 32) - other;
    std::array<std::uint32_t, 6> of_count{};
    for (unsigned j = 0; j <= 5; ++j) {
        std::uint64_t product = std::uint64_t{1} << 32;
        for (unsigned k = 0; k < 5; ++k) product = product * (k < j ? other : zero) >> 32;
        of_count[j] = std::max(1U, static_cast<std::uint32_t>(product >> (32 - kProbBits)));
    }
    Table table{};
    const unsigned rest = other > zero ? kPatterns - 1 : 0;
    std::uint32_t sum = 0;
    for (unsigned p = 0; p < kPatterns; ++p) {
        if (p != rest) sum += of_count[static_cast<unsigned>(std::popcount(p))];
    }
    std::uint32_t start = 0;
    for (unsigned p = 0; p < kPatterns; ++p) {
        const std::uint32_t frequency =
            p == rest ? kSlots - sum : of_count[static_cast<unsigned>(std::popcount(p))];
        table.start[p] = static_cast<std::uint16_t>(start);
        table.frequency[p] = static_cast<std::uint16_t>(frequency);
        start += frequency;
    }
    return table;
}

// The density nearest to others / digits: an encoder's choice.
unsigned nearest_density(std::uint64_t others, std::uint64_t digits) noexcept {
    unsigned d = 0;
    while (d + 1 < kDensities) {
        // Fixed point with 32 fraction bits; both numbers are counts, far below 2^31.
        const std::uint64_t middle = (kDensity[d] + kDensity[d + 1]) / 2;
        if ((others << 32) >= middle * digits) break;
        ++d;
    }
    return d;
}

// --- bytes, patterns, signs

struct ByteTables {
    std::array<std::uint8_t, 243> pattern;
    std::array<std::uint8_t, 243> signs;            // of the digits that are not zero, first lowest; 1: minus
    std::array<std::uint8_t, kPatterns * 32> byte;  // by pattern and signs
};

constexpr ByteTables make_byte_tables() noexcept {
    ByteTables tables{};
    for (unsigned packed = 0; packed < 243; ++packed) {
        unsigned pattern = 0;
        unsigned signs = 0;
        unsigned n = 0;
        for (unsigned weight = 81, rest = packed; weight != 0; rest %= weight, weight /= 3) {
            const unsigned digit = rest / weight;
            pattern = 2 * pattern + (digit != 1 ? 1 : 0);
            if (digit != 1) signs |= (digit == 0 ? 1U : 0U) << n++;
        }
        tables.pattern[packed] = static_cast<std::uint8_t>(pattern);
        tables.signs[packed] = static_cast<std::uint8_t>(signs);
        tables.byte[pattern * 32 + signs] = static_cast<std::uint8_t>(packed);
    }
    return tables;
}
constexpr ByteTables kBytes = make_byte_tables();

// --- contexts

// A decaying count of digits that were not zero in the bytes before, and its octave.
class History {
  public:
    unsigned context() const noexcept {
        return std::min(static_cast<unsigned>(std::bit_width(state_ >> 3)), kContexts - 1);
    }
    void add(unsigned pattern) noexcept {
        state_ += 32U * static_cast<unsigned>(std::popcount(pattern)) - (state_ >> 3);
    }

  private:
    unsigned state_ = 0;
};

// Lane i has the bytes i * stretch up to (i + 1) * stretch, as far as there are that many.
std::size_t stretch_of(std::size_t n, std::size_t lanes) noexcept {
    return (n + lanes - 1) / lanes;
}

std::size_t lane_end(std::size_t n, std::size_t stretch, std::size_t lane) noexcept {
    return std::min(n, (lane + 1) * stretch);
}

}  // namespace

void encode(std::span<const std::uint8_t> packed, Bytes& out) {
    const std::size_t n = packed.size();
    thread_local std::vector<std::uint8_t> patterns;
    thread_local std::vector<std::uint8_t> contexts;
    patterns.resize(n);
    contexts.resize(n);
    std::uint64_t others = 0;
    for (std::size_t i = 0; i < n; ++i) {
        patterns[i] = kBytes.pattern[packed[i]];
        others += static_cast<unsigned>(std::popcount(patterns[i]));
    }
    // Contexts save about a bit in ten, lanes cost four bytes each.
    const unsigned lanes_log2 = others < 2048 ? 0 : others < 8192 ? 2 : kMaxLanesLog2;
    const bool has_contexts = others >= 192;
    const std::size_t lanes = std::size_t{1} << lanes_log2;
    const std::size_t stretch = stretch_of(n, lanes);

    std::array<std::uint64_t, kContexts> bytes_in{};
    std::array<std::uint64_t, kContexts> others_in{};
    for (std::size_t lane = 0; lane < lanes; ++lane) {
        History history;
        for (std::size_t i = lane * stretch; i < lane_end(n, stretch, lane); ++i) {
            const unsigned context = has_contexts ? history.context() : 0;
            history.add(patterns[i]);
            contexts[i] = static_cast<std::uint8_t>(context);
            ++bytes_in[context];
            others_in[context] += static_cast<unsigned>(std::popcount(patterns[i]));
        }
    }
    std::array<Table, kContexts> tables;
    out.push_back(static_cast<std::uint8_t>(lanes_log2 | (has_contexts ? 8U : 0U)));
    for (unsigned c = 0; c < (has_contexts ? kContexts : 1); ++c) {
        const unsigned density =
            bytes_in[c] == 0 ? kDensities - 1 : nearest_density(others_in[c], 5 * bytes_in[c]);
        tables[c] = make_table(density);
        out.push_back(static_cast<std::uint8_t>(density));
    }

    std::array<std::uint32_t, kMaxLanes> states;
    states.fill(kLowest);
    std::vector<std::uint16_t> words;
    for (std::size_t step = stretch; step-- > 0;) {
        for (std::size_t lane = lanes; lane-- > 0;) {
            const std::size_t i = lane * stretch + step;
            if (i >= lane_end(n, stretch, lane)) continue;
            const Table& table = tables[contexts[i]];
            const std::uint32_t frequency = table.frequency[patterns[i]];
            std::uint32_t& state = states[lane];
            if (state >= std::uint64_t{frequency} << 16) {
                words.push_back(static_cast<std::uint16_t>(state));
                state >>= 16;
            }
            state = (state / frequency << kProbBits) + state % frequency + table.start[patterns[i]];
        }
    }
    ByteWriter writer;
    for (std::size_t lane = 0; lane < lanes; ++lane) writer.le(states[lane]);
    for (std::size_t w = words.size(); w-- > 0;) writer.le(words[w]);
    out.insert(out.end(), writer.data().begin(), writer.data().end());
    BitWriter signs(out);
    for (std::size_t i = 0; i < n; ++i) {
        if (patterns[i] != 0) {
            signs.write(kBytes.signs[packed[i]], static_cast<unsigned>(std::popcount(patterns[i])));
        }
    }
    signs.finish();
}

namespace {

struct Lane {
    std::uint32_t state = 0;
    History history;
};

// The pattern that holds `slot`: as many patterns as begin at or below it, less one.
inline unsigned pattern_at(const Table& table, std::uint32_t slot) noexcept {
    unsigned found = 0;
    for (const std::uint16_t start : table.start) found += start <= slot ? 1U : 0U;
    return found - 1;
}

// One pattern; `words` must have two bytes left for it. Returns whether it took them.
inline bool decode_one(Lane& lane, const std::array<Table, kContexts>& tables, const std::uint8_t* words,
                       std::uint8_t& pattern) noexcept {
    const Table& table = tables[lane.history.context()];
    const std::uint32_t slot = lane.state & (kSlots - 1);
    const std::uint32_t of_zeros = table.frequency[0];
    unsigned found = 0;
    if (slot >= of_zeros) found = pattern_at(table, slot);
    lane.state = table.frequency[found] * (lane.state >> kProbBits) + slot - table.start[found];
    lane.history.add(found);
    pattern = static_cast<std::uint8_t>(found);
    if (lane.state >= kLowest) return false;
    lane.state = lane.state << 16 | load_le<std::uint16_t>(words);
    return true;
}

std::uint64_t decode_patterns(ByteReader& in, const std::array<Table, kContexts>& tables, std::size_t lanes,
                              std::span<std::uint8_t> patterns) {
    std::array<Lane, kMaxLanes> lane;
    for (std::size_t l = 0; l < lanes; ++l) {
        lane[l].state = in.le<std::uint32_t>("rANS state");
        if (lane[l].state < kLowest) in.fail("rANS state", "is below 2^16");
    }
    // Signs follow the words; where the last states need no word any more, there is nothing to be looked at.
    const std::size_t begin = in.position();
    const ByteView rest = in.rest();
    const std::size_t n = patterns.size();
    const std::size_t stretch = stretch_of(n, lanes);
    std::size_t at = 0;
    static constexpr std::uint8_t kNoWord[2] = {};
    for (std::size_t step = 0; step < stretch; ++step) {
        for (std::size_t l = 0; l < lanes; ++l) {
            const std::size_t i = l * stretch + step;
            if (i >= lane_end(n, stretch, l)) continue;
            const bool has_word = rest.size() - at >= 2;
            if (decode_one(lane[l], tables, has_word ? rest.data() + at : kNoWord, patterns[i])) {
                if (!has_word) throw DecodeError("ternary rANS stream: truncated");
                at += 2;
            }
        }
    }
    for (std::size_t l = 0; l < lanes; ++l) {
        if (lane[l].state != kLowest)
            throw DecodeError("ternary rANS stream: a lane does not end in its first state");
    }
    return begin + at;
}

}  // namespace

void decode(ByteView stream, std::span<std::uint8_t> packed) {
    ByteReader in(stream);
    const unsigned head = in.u8("ternary rANS header");
    if (head > 15 || (head & 7U) > kMaxLanesLog2)
        in.fail("ternary rANS header", "is " + std::to_string(head));
    const bool has_contexts = (head & 8U) != 0;
    std::array<Table, kContexts> tables;
    for (unsigned c = 0; c < kContexts; ++c) {
        if (c > 0 && !has_contexts) {
            tables[c] = tables[0];
            continue;
        }
        const unsigned density = in.u8("density");
        if (density >= kDensities) in.fail("density", "is " + std::to_string(density) + ", above 71");
        tables[c] = make_table(density);
    }
    const std::uint64_t at = decode_patterns(in, tables, std::size_t{1} << (head & 7U), packed);
    BitReader signs(stream.subspan(static_cast<std::size_t>(at)));
    for (std::uint8_t& byte : packed) {
        if (byte == 0) {
            byte = kZeroByte;
        } else {
            byte = kBytes.byte[byte * 32U + signs.read(static_cast<unsigned>(std::popcount(byte)))];
        }
    }
    check(signs.finish(), "signs of a ternary rANS stream");
}

}  // namespace nncodec::ternary_rans
