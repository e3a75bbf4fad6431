// Tables of frequencies as bytes. Bytes: docs/format.md#tables
#include <algorithm>
#include <array>
#include <bit>
#include <optional>
#include <string>

#include "entropy/models.hpp"
#include "entropy/rans_alias.hpp"

namespace nncodec::rans {
namespace {

constexpr unsigned kMaxFineness = 31;

// Bits that are kept below the leading one of a frequency of `width` bits. Half a bit more per bit of width:
// the error that counting leaves in a frequency grows with its square root, so finer would be noise.
constexpr unsigned kept_bits(unsigned width, unsigned fineness) noexcept {
    if (width <= 1) return 0;
    const unsigned half_bits = std::max(width + fineness, 6U) - 6;
    return std::min(width - 1, half_bits / 2);
}

unsigned width_of(std::uint32_t frequency) noexcept {
    return static_cast<unsigned>(std::bit_width(frequency));
}

// Bits of a frequency that are not sent.
unsigned dropped_bits(std::uint32_t frequency, unsigned fineness) noexcept {
    const unsigned width = width_of(frequency);
    return width == 0 ? 0 : width - 1 - kept_bits(width, fineness);
}

bool is_exact(std::uint32_t frequency, unsigned fineness) noexcept {
    return (frequency & ((1U << dropped_bits(frequency, fineness)) - 1)) == 0;
}

std::size_t mode_of(const std::vector<std::uint32_t>& of) noexcept {
    return static_cast<std::size_t>(std::max_element(of.begin(), of.end()) - of.begin());
}

// The symbol whose frequency is not sent, being what the others leave: the only one that cannot be sent
// exactly, else the most frequent one. Nothing if two cannot be sent.
std::optional<std::size_t> balance_of(const std::vector<std::uint32_t>& of, unsigned fineness) noexcept {
    std::optional<std::size_t> odd;
    for (std::size_t s = 0; s < of.size(); ++s) {
        if (is_exact(of[s], fineness)) continue;
        if (odd) return std::nullopt;
        odd = s;
    }
    return odd ? *odd : mode_of(of);
}

// The least fineness at which this frequency can be sent: kept_bits must reach down to its lowest bit that is
// set.
unsigned least_fineness(std::uint32_t frequency) noexcept {
    const unsigned width = width_of(frequency);
    if (width == 0) return 0;
    const unsigned kept = width - 1 - static_cast<unsigned>(std::countr_zero(frequency));
    return kept == 0 ? 0 : std::max(2 * kept + 6, width) - width;
}

// The least one at which balance_of finds a symbol: all but one can be sent.
unsigned least_fineness(const std::vector<std::uint32_t>& of) noexcept {
    unsigned most = 0;
    unsigned second = 0;
    for (const std::uint32_t frequency : of) {
        const unsigned needed = least_fineness(frequency);
        second = std::max(second, std::min(most, needed));
        most = std::max(most, needed);
    }
    return second;
}

// One table; sums and ends are for the caller to check.
struct Shape {
    std::uint32_t first = 0;    // used symbol
    std::uint32_t last = 0;     // used symbol
    std::uint32_t balance = 0;  // first <= balance <= last
    std::array<std::uint32_t, 256> of{};
};

std::uint32_t zigzag(std::uint32_t value, std::uint32_t from) noexcept {
    return value >= from ? 2 * (value - from) : 2 * (from - value) - 1;
}
std::uint32_t unzigzag(std::uint32_t code, std::uint32_t from) noexcept {
    return code % 2 == 0 ? from + code / 2 : from - code / 2 - 1;
}

// Codes tables one after the other, in either direction (range_coder.hpp): decoding fills `table`.
template <typename Coder>
class TableCoder {
  public:
    TableCoder(Coder& coder, unsigned prob_bits, unsigned fineness) noexcept
        : coder_(coder), prob_bits_(prob_bits), fineness_(fineness) {}

    // False if the stream is damaged.
    bool code(Shape& table) {
        if (!have_previous_) {
            table.first = coder_.direct(table.first, 8);
            table.last = coder_.direct(table.last, 8);
        } else {
            table.first = relative(ends_, table.first, previous_.first);
            table.last = relative(ends_, table.last, previous_.last);
        }
        if (table.last > 255 || table.first > table.last) return false;
        const std::uint32_t expected = have_previous_ ? previous_.balance : (table.first + table.last) / 2;
        table.balance = relative(balance_, table.balance, expected);
        if (table.balance < table.first || table.balance > table.last) return false;

        std::uint32_t rest = 1U << prob_bits_;
        std::array<unsigned, 2> before{0, 0};  // widths of the last two symbols coded, nearest first
        int drift = 0;                         // of the last width from its prediction
        for (std::uint32_t s = table.first; s <= table.last; ++s) {
            if (s == table.balance) continue;
            const unsigned expected_width = have_previous_ ? width_of(previous_.of[s]) : before[0];
            const int trend =
                have_previous_ ? drift : static_cast<int>(before[0]) - static_cast<int>(before[1]);
            const unsigned context = (have_previous_ ? 3 : 0) + (trend < 0 ? 0 : trend == 0 ? 1 : 2);
            const unsigned width = code_width(width_of(table.of[s]), expected_width, context);
            table.of[s] = code_below_leading(table.of[s], width);
            if (table.of[s] >= rest) return false;
            rest -= table.of[s];
            drift = static_cast<int>(width) - static_cast<int>(expected_width);
            before = {width, before[0]};
        }
        table.of[table.balance] = rest;
        previous_ = table;
        have_previous_ = true;
        return true;
    }

  private:
    std::uint32_t relative(range::ExpGolomb<>& model, std::uint32_t value, std::uint32_t from) {
        return unzigzag(model.code(coder_, zigzag(value, from)), from);
    }

    unsigned code_width(unsigned width, unsigned expected, unsigned context) {
        if (range::code_bit(coder_, same_[context], width == expected)) return expected;
        const bool can_fall = expected > 0;
        const bool can_rise = expected < prob_bits_;
        const bool rises =
            can_fall && can_rise ? range::code_bit(coder_, rises_[context], width > expected) : can_rise;
        const unsigned most = rises ? prob_bits_ - expected : expected;
        const unsigned distance_in = rises ? width - expected : expected - width;
        unsigned distance = 1;
        while (distance < most) {
            auto& model = further_[2 * (context / 3) + rises][std::min(distance, 4U) - 1];
            if (!range::code_bit(coder_, model, distance < distance_in)) break;
            ++distance;
        }
        return rises ? expected + distance : expected - distance;
    }

    std::uint32_t code_below_leading(std::uint32_t frequency, unsigned width) {
        if (width == 0) return 0;
        const unsigned kept = kept_bits(width, fineness_);
        const unsigned dropped = width - 1 - kept;
        std::uint32_t result = 1;
        if (kept != 0) {
            result = 2 + range::code_bit(coder_, top_[width], (frequency >> (width - 2)) & 1);
            const std::uint32_t low = (frequency >> dropped) & ((1U << (kept - 1)) - 1);
            result = (result << (kept - 1)) | coder_.direct(low, kept - 1);
        }
        return result << dropped;
    }

    Coder& coder_;
    unsigned prob_bits_;
    unsigned fineness_;
    Shape previous_{};
    bool have_previous_ = false;
    range::ExpGolomb<> ends_{};
    range::ExpGolomb<> balance_{};
    std::array<range::BitModel, 6> same_{};
    std::array<range::BitModel, 6> rises_{};
    std::array<std::array<range::BitModel, 4>, 4> further_{};
    // Widths go up to that of 2^P, which a damaged table may claim to repeat before it is found out.
    std::array<range::BitModel, kMaxProbBits + 2> top_{};
};

Shape shape_of(const Frequencies& table, unsigned fineness) noexcept {
    Shape shape;
    for (std::size_t s = table.of.size(); s-- > 0;) {
        shape.of[s] = table.of[s];
        if (table.of[s] != 0) shape.first = static_cast<std::uint32_t>(s);
        if (table.of[s] != 0 && shape.last == 0) shape.last = static_cast<std::uint32_t>(s);
    }
    shape.balance = static_cast<std::uint32_t>(*balance_of(table.of, fineness));
    return shape;
}

// Rounds all frequencies but the greatest, which takes what is left; nothing if nothing is left.
std::optional<Frequencies> round_table(const Frequencies& exact, unsigned fineness) {
    Frequencies result = exact;
    const std::size_t balance = mode_of(exact.of);
    std::uint32_t rest = 1U << exact.prob_bits;
    for (std::size_t s = 0; s < exact.of.size(); ++s) {
        if (s == balance) continue;
        const unsigned dropped = dropped_bits(exact.of[s], fineness);
        result.of[s] = ((exact.of[s] + ((1U << dropped) >> 1)) >> dropped) << dropped;
        if (result.of[s] >= rest) return std::nullopt;
        rest -= result.of[s];
    }
    result.of[balance] = rest;
    return result;
}

}  // namespace

std::vector<Frequencies> fit_tables(std::span<const std::vector<std::uint64_t>> counts, unsigned prob_bits) {
    std::vector<Frequencies> exact;
    for (const auto& table : counts) exact.push_back(normalise(table, prob_bits));
    // Roundings from the coarsest to the one that changes nothing, with what the counts cost under them.
    struct Rounded {
        std::vector<Frequencies> tables;
        std::uint64_t cost = 0;
    };
    std::vector<Rounded> candidates;
    for (unsigned fineness = 0; fineness <= kMaxFineness; ++fineness) {
        Rounded rounded;
        for (std::size_t t = 0; t < exact.size(); ++t) {
            auto table = round_table(exact[t], fineness);
            if (!table) break;
            rounded.cost += cost_in_256ths(counts[t], *table);
            rounded.tables.push_back(std::move(*table));
        }
        if (rounded.tables.size() != exact.size()) continue;
        const bool whole = rounded.tables == exact;
        candidates.push_back(std::move(rounded));
        if (whole) break;
    }
    // Writing takes longest: from the finest on, so that coarse ones, which cost more, are passed over. The
    // coarser of equals wins.
    std::vector<Frequencies> best = std::move(exact);
    std::uint64_t least = UINT64_MAX;
    for (auto candidate = candidates.rbegin(); candidate != candidates.rend(); ++candidate) {
        if (candidate->cost >= least) continue;
        ByteWriter bytes;
        write_tables(bytes, candidate->tables);
        const std::uint64_t cost = candidate->cost + bytes.size() * 8 * 256;
        if (cost > least) continue;
        least = cost;
        best = std::move(candidate->tables);
    }
    return best;
}

void write_tables(ByteWriter& out, std::span<const Frequencies> tables) {
    check_tables(tables);
    unsigned fineness = 0;
    for (const Frequencies& table : tables) fineness = std::max(fineness, least_fineness(table.of));

    Bytes body;
    range::BinaryEncoder coder(body);
    const unsigned prob_bits = tables.front().prob_bits;
    coder.direct(static_cast<std::uint32_t>(tables.size() - 1), 8);
    coder.direct(prob_bits - kMinProbBits, 3);
    coder.direct(fineness, 5);
    TableCoder tables_coder(coder, prob_bits, fineness);
    for (const Frequencies& table : tables) {
        Shape shape = shape_of(table, fineness);
        tables_coder.code(shape);
    }
    coder.finish();
    out.block(body);
}

std::vector<Frequencies> read_tables(ByteReader& in, std::size_t max_tables) {
    range::BinaryDecoder coder(in.block("rANS tables"));
    const std::size_t count = coder.direct(0, 8) + 1;
    const unsigned prob_bits = coder.direct(0, 3) + kMinProbBits;
    const unsigned fineness = coder.direct(0, 5);
    if (count > max_tables) in.fail("rANS table count", "is above " + std::to_string(max_tables));
    if (prob_bits > kMaxProbBits) in.fail("rANS prob_bits", "is above 16");
    TableCoder tables_coder(coder, prob_bits, fineness);
    std::vector<Frequencies> tables;
    for (std::size_t t = 0; t < count; ++t) {
        Shape shape;
        if (!tables_coder.code(shape)) in.fail("rANS table", "is damaged");
        if (coder.status() != Status::ok) break;
        if (shape.of[shape.last] == 0) in.fail("rANS table", "ends in an unused symbol");
        tables.push_back({{shape.of.begin(), shape.of.begin() + shape.last + 1}, prob_bits});
    }
    check(coder.finish(), "rANS tables");
    return tables;
}

}  // namespace nncodec::rans
