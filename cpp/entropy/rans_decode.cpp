#include <algorithm>
#include <string>

#include "base/dispatch.hpp"
#include "entropy/rans_kernels.hpp"

namespace nncodec::rans {
namespace {

SmallTable make_small_table(const AliasTable& table) noexcept {
    SmallTable small{};
    for (std::size_t b = 0; b < 64; ++b) {
        small.bucket[b] = static_cast<std::uint16_t>(table.cut[b] << 8 | table.alias[b]);
        small.shift[b] = table.shift[b];
        small.frequency[b] = static_cast<std::uint16_t>(table.frequency[b]);
        small.symbol[b] = table.symbol[b];
    }
    return small;
}

struct Found {
    std::uint32_t frequency;
    std::uint32_t place;
    std::uint8_t symbol;
};

// prob_bits 12: one look-up.
struct SlotLookup {
    const std::uint32_t* slots;

    explicit SlotLookup(const DecodeTables& tables) noexcept : slots(tables.slots.data()) {}
    static constexpr unsigned prob_bits() noexcept { return 12; }
    Found find(std::size_t table, std::uint32_t slot) const noexcept {
        const std::uint32_t entry = slots[(table << 12) | slot];
        return {(entry >> 20) + 1, (entry >> 8) & 0xFFF, static_cast<std::uint8_t>(entry)};
    }
};

// Any prob_bits: bucket, then frequency.
struct BucketLookup {
    const AliasTable* tables;
    unsigned bits;
    unsigned width_bits;

    explicit BucketLookup(const DecodeTables& all) noexcept
        : tables(all.alias.data()), bits(all.prob_bits), width_bits(all.prob_bits - all.bucket_bits) {}
    unsigned prob_bits() const noexcept { return bits; }
    Found find(std::size_t table, std::uint32_t slot) const noexcept {
        const AliasTable& alias = tables[table];
        const std::uint32_t bucket = slot >> width_bits;
        const std::uint32_t low = slot & ((1U << width_bits) - 1);
        const bool own = low < alias.cut[bucket];
        const std::uint32_t rank = own ? bucket : alias.alias[bucket];
        const std::uint32_t place = own ? low : (low + alias.shift[bucket]) & 0xFFFF;
        return {alias.frequency[rank], place, alias.symbol[rank]};
    }
};

// Takes `progress` to the end of the symbols. Returns whether the words sufficed.
template <typename Lookup>
bool decode_rest(const Lookup lookup, const Layout& layout, unsigned lanes,
                 DecodeProgress& progress) noexcept {
    const unsigned bits = lookup.prob_bits();
    const std::uint32_t mask = (1U << bits) - 1;
    const std::size_t lane_mask = lanes - 1;
    const std::uint8_t* const column_context = layout.column_context.data();
    const bool has_columns = !layout.column_context.empty();
    const std::size_t rows = (layout.n + layout.columns - 1) / layout.columns;
    const std::uint8_t* words = progress.words;
    const std::uint8_t* const end = progress.end;

    const auto step = [&](std::size_t table, std::uint32_t& state, std::uint8_t& out) {
        const Found found = lookup.find(table, state & mask);
        out = found.symbol;
        return found.frequency * (state >> bits) + found.place;
    };
    for (; progress.row < rows; ++progress.row, progress.column = 0) {
        const std::size_t first = progress.row * layout.columns;
        const std::size_t count = std::min(layout.columns, layout.n - first);
        const std::size_t row_table = layout.row_context.empty() ? 0 : layout.row_context[progress.row];
        std::size_t column = progress.column;
        while (column < count) {
            // As long as each symbol of a group can have its word, nothing more needs to be checked.
            const std::size_t stop = std::min(count, column + lanes);
            const bool plenty = static_cast<std::size_t>(end - words) >= 2 * (stop - column);
            for (; column < stop; ++column) {
                std::uint32_t& lane = progress.states[column & lane_mask];
                const std::size_t table = row_table + (has_columns ? column_context[column] : 0);
                std::uint32_t state = step(table, lane, *progress.out++);
                if (plenty) {
                    const bool refill = state < kLowest;
                    const std::uint32_t word = words == end ? 0 : load_le<std::uint16_t>(words);
                    state = refill ? (state << 16) | word : state;
                    words += refill ? 2 : 0;
                } else if (state < kLowest) {
                    if (end - words < 2) return false;
                    state = (state << 16) | load_le<std::uint16_t>(words);
                    words += 2;
                }
                lane = state;
            }
        }
    }
    progress.words = words;
    return true;
}

// As far as the vector kernels of this machine go; decode_rest does what is left, which may be everything.
void decode_vectors(const DecodeTables& tables, const Layout& layout, unsigned lanes,
                    DecodeProgress& progress) {
#if defined(__x86_64__)
    const DecodeTask task{tables.slots.data(),
                          tables.small.empty() ? nullptr : tables.small.data(),
                          tables.bucket_bits,
                          lanes,
                          layout.n,
                          layout.columns,
                          layout.row_context.data(),
                          layout.column_context.data()};
    switch (active_isa()) {
        case Isa::avx512:
            return decode_avx512(task, progress);
        default:
            return;
    }
#endif
}

}  // namespace

Decoder::Decoder(std::span<const Frequencies> tables) {
    check_tables(tables);
    const auto made = std::make_shared<DecodeTables>();
    made->n_tables = tables.size();
    made->prob_bits = tables.front().prob_bits;
    made->bucket_bits = bucket_bits_for(tables);
    made->alias.reserve(tables.size());
    for (const Frequencies& table : tables) made->alias.push_back(make_alias_table(table, made->bucket_bits));
    if (made->prob_bits == 12) {
        const BucketLookup lookup(*made);
        made->slots.reserve(tables.size() << 12);
        for (std::size_t t = 0; t < tables.size(); ++t) {
            for (std::uint32_t slot = 0; slot < 1U << 12; ++slot) {
                const Found found = lookup.find(t, slot);
                made->slots.push_back((found.frequency - 1) << 20 | found.place << 8 | found.symbol);
            }
        }
        if (made->bucket_bits <= 6) {
            made->small.reserve(tables.size());
            for (const AliasTable& table : made->alias) made->small.push_back(make_small_table(table));
        }
        made->alias = {};
    }
    tables_ = made;
}

std::size_t Decoder::n_tables() const noexcept {
    return tables_->n_tables;
}

void Decoder::decode(ByteView stream, const Layout& layout, unsigned lanes,
                     std::span<std::uint8_t> symbols) const {
    if (stream.size() < 4 * lanes) {
        throw DecodeError("rANS stream has " + std::to_string(stream.size()) + " bytes, fewer than its " +
                          std::to_string(lanes) + " lane states");
    }
    DecodeProgress progress;
    progress.words = stream.data() + 4 * lanes;
    progress.end = stream.data() + stream.size();
    progress.out = symbols.data();
    for (unsigned lane = 0; lane < lanes; ++lane) {
        progress.states[lane] = load_le<std::uint32_t>(stream.data() + 4 * lane);
        if (progress.states[lane] < kLowest) throw DecodeError("rANS lane state is below 2^16");
    }
    if (tables_->prob_bits == 12) decode_vectors(*tables_, layout, lanes, progress);
    const bool whole = tables_->prob_bits == 12
                           ? decode_rest(SlotLookup(*tables_), layout, lanes, progress)
                           : decode_rest(BucketLookup(*tables_), layout, lanes, progress);
    if (!whole) throw DecodeError("rANS stream ends before its symbols");
    if (progress.words != progress.end) throw DecodeError("rANS stream goes on after its last symbol");
    for (unsigned lane = 0; lane < lanes; ++lane) {
        if (progress.states[lane] != kLowest) throw DecodeError("rANS lane does not end in its first state");
    }
}

unsigned lanes_for(std::size_t stream_bytes) noexcept {
    // A lane costs about three bytes: 32 bits of state, of which eight on average are information.
    const std::size_t affordable = stream_bytes / 3000;
    return std::min(kMaxLanes, static_cast<unsigned>(std::bit_floor(std::max<std::size_t>(affordable, 1))));
}

}  // namespace nncodec::rans
