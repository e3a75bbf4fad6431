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

// state < kLowest ? refilled : state, without a branch: it would be mispredicted about once in five symbols,
// and compilers think that they know better.
inline std::uint32_t if_below_lowest(std::uint32_t state, std::uint32_t refilled) noexcept {
#if defined(__x86_64__)
    std::uint32_t result = state;
    __asm__("cmpl $0x10000, %0\n\tcmovb %1, %0" : "+r"(result) : "r"(refilled) : "cc");
    return result;
#else
    return state ^ ((state ^ refilled) & (0 - std::uint32_t{state < kLowest}));
#endif
}

// Takes `progress` to the end of the symbols, with the help of `row_kernel` unless that is null. Returns
// whether the words sufficed.
template <bool has_columns, typename Lookup>
bool decode_rest(const Lookup lookup, const Layout& layout, unsigned lanes, const DecodeTask& task,
                 DecodeRow row_kernel, DecodeProgress& progress) noexcept {
    const unsigned bits = lookup.prob_bits();
    const std::uint32_t mask = (1U << bits) - 1;
    const std::uint8_t* const column_context = layout.column_context.data();
    const std::size_t rows = (layout.n + layout.columns - 1) / layout.columns;
    const std::uint8_t* const end = progress.end;

    for (; progress.row < rows; ++progress.row, progress.column = 0) {
        const std::size_t first = progress.row * layout.columns;
        const std::size_t count = std::min(layout.columns, layout.n - first);
        const std::size_t row_table = layout.row_context.empty() ? 0 : layout.row_context[progress.row];
        if (row_kernel != nullptr && count >= lanes) row_kernel(task, row_table, count, progress);
        const std::uint8_t* words = progress.words;
        std::size_t column = progress.column;
        std::uint8_t* const out = progress.out - column;
        while (column < count) {
            const std::size_t now = std::min<std::size_t>(lanes, count - column);
            const auto table_of = [&, column](std::size_t lane) {
                return row_table + (has_columns ? column_context[column + lane] : 0);
            };
            // As long as each symbol of a step can have its word, and one is left to be looked at in vain,
            // nothing needs to be checked; and no branch depends on the data.
            if (static_cast<std::size_t>(end - words) >= 2 * now + 2) {
                std::uint32_t* const states = progress.states;
#pragma GCC unroll 4
                for (std::size_t lane = 0; lane < now; ++lane) {
                    const std::uint32_t before = states[lane];
                    const Found found = lookup.find(table_of(lane), before & mask);
                    const std::uint32_t state = found.frequency * (before >> bits) + found.place;
                    const std::uint32_t refilled = (state << 16) | load_le<std::uint16_t>(words);
                    states[lane] = if_below_lowest(state, refilled);
                    words += state < kLowest ? 2 : 0;
                    out[column + lane] = found.symbol;
                }
            } else {
                for (std::size_t lane = 0; lane < now; ++lane) {
                    std::uint32_t& state = progress.states[lane];
                    const Found found = lookup.find(table_of(lane), state & mask);
                    state = found.frequency * (state >> bits) + found.place;
                    out[column + lane] = found.symbol;
                    if (state >= kLowest) continue;
                    if (end - words < 2) return false;
                    state = (state << 16) | load_le<std::uint16_t>(words);
                    words += 2;
                }
            }
            column += now;
        }
        progress.out = out + count;
        progress.words = words;
    }
    return true;
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
    const DecodeTask task{tables_->slots.data(),
                          tables_->small.empty() ? nullptr : tables_->small.data(),
                          tables_->bucket_bits,
                          lanes,
                          layout.n,
                          layout.columns,
                          layout.row_context.data(),
                          layout.column_context.data()};
    DecodeRow row_kernel = nullptr;
#if defined(__x86_64__)
    if (tables_->prob_bits == 12 && lanes >= 16) {
        const Isa isa = active_isa();
        if (isa == Isa::avx512) decode_avx512(task, progress);
        if (isa == Isa::avx2) row_kernel = decode_row_avx2;
    }
#elif defined(__aarch64__)
    if (active_isa() == Isa::neon && lanes >= 16 && task.small != nullptr && layout.column_context.empty()) {
        row_kernel = decode_row_neon;
    }
#endif
    const auto rest = [&](const auto lookup) {
        return layout.column_context.empty()
                   ? decode_rest<false>(lookup, layout, lanes, task, row_kernel, progress)
                   : decode_rest<true>(lookup, layout, lanes, task, row_kernel, progress);
    };
    const bool whole = tables_->prob_bits == 12 ? rest(SlotLookup(*tables_)) : rest(BucketLookup(*tables_));
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
