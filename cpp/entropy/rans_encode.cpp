#include <algorithm>
#include <memory>
#include <string>

#include "base/dispatch.hpp"
#include "entropy/rans_kernels.hpp"

namespace nncodec::rans {
namespace {

inline std::uint64_t multiply_high(std::uint64_t a, std::uint64_t b) noexcept {
    __extension__ using Wide = unsigned __int128;
    return static_cast<std::uint64_t>((static_cast<Wide>(a) * b) >> 64);
}

// floor(x * ceil(2^64 / f) / 2^64) == floor(x / f) for x < 2^32 and 2 <= f <= 2^16: the rounding adds less
// than x * f / 2^64 < 2^-16 <= 1 / f to the quotient. For f = 1 the reciprocal does not fit; encode_symbol
// knows.
inline EncodeEntry make_entry(std::uint32_t frequency, std::uint32_t start) noexcept {
    const std::uint64_t reciprocal = frequency < 2 ? 0 : UINT64_MAX / frequency + 1;
    return {reciprocal, frequency, start};
}

// Pushes one symbol on `state`.
inline std::uint32_t encode_symbol(std::uint32_t state, const EncodeEntry& entry, const std::uint16_t* slots,
                                   unsigned prob_bits, std::uint16_t*& words) noexcept {
    // Above this limit the new state would not fit 32 bits. It is 2^32 for the only symbol of a table.
    const std::uint64_t limit = std::uint64_t{entry.frequency} << (32 - prob_bits);
    const bool full = state >= limit;
    *words = static_cast<std::uint16_t>(state);
    words += full;
    state = full ? state >> 16 : state;
    const auto quotient =
        entry.reciprocal == 0 ? state : static_cast<std::uint32_t>(multiply_high(state, entry.reciprocal));
    const std::uint32_t place = state - quotient * entry.frequency;
    return (quotient << prob_bits) + slots[entry.start + place];
}

[[noreturn]] void refuse(std::uint8_t symbol, std::size_t table) {
    throw ArgumentError("symbol " + std::to_string(symbol) + " has frequency 0 in table " +
                        std::to_string(table));
}

std::uint8_t greatest(std::span<const std::uint8_t> contexts) noexcept {
    return contexts.empty() ? std::uint8_t{0} : *std::max_element(contexts.begin(), contexts.end());
}

void add_vectors(EncodeTables& tables) {
    tables.packed.reserve(tables.entries.size());
    for (const EncodeEntry& entry : tables.entries)
        tables.packed.push_back(entry.start << 16 | entry.frequency);
    tables.vectors.resize(tables.n_tables);
    for (std::size_t t = 0; t < tables.n_tables; ++t) {
        EncodeVectors& table = tables.vectors[t];
        bool any = false;
        for (std::uint16_t s = 0; s < 256; ++s) {
            const EncodeEntry& entry = tables.entries[256 * t + s];
            if (entry.frequency == 0) continue;
            if (!any) table.first = s;
            any = true;
            if (s - table.first >= 64) {
                tables.vectors = {};
                return;
            }
            table.frequency[s - table.first] = static_cast<std::uint16_t>(entry.frequency);
            table.start[s - table.first] = static_cast<std::uint16_t>(entry.start);
        }
    }
}

void encode_scalar(const EncodeTables& tables, std::span<const std::uint8_t> symbols, const Layout& layout,
                   unsigned lanes, EncodeProgress& progress) {
    const unsigned bits = tables.prob_bits;
    const std::size_t rows = (layout.n + layout.columns - 1) / layout.columns;
    std::uint16_t* words = progress.words;
    for (std::size_t row = rows; row-- > 0;) {
        const std::uint8_t* const from = symbols.data() + row * layout.columns;
        const std::size_t row_context = layout.row_context.empty() ? 0 : layout.row_context[row];
        for (std::size_t column = std::min(layout.columns, layout.n - row * layout.columns); column-- > 0;) {
            const std::size_t table =
                row_context + (layout.column_context.empty() ? 0 : layout.column_context[column]);
            const EncodeEntry& entry = tables.entries[256 * table + from[column]];
            if (entry.frequency == 0) refuse(from[column], table);
            std::uint32_t& state = progress.states[column & (lanes - 1)];
            state = encode_symbol(state, entry, tables.slots.data() + (table << bits), bits, words);
        }
    }
    progress.words = words;
}

// Whether a vector kernel of this machine did it all.
bool encode_vectors([[maybe_unused]] const EncodeTables& tables,
                    [[maybe_unused]] std::span<const std::uint8_t> symbols,
                    [[maybe_unused]] const Layout& layout, [[maybe_unused]] unsigned lanes,
                    [[maybe_unused]] EncodeProgress& progress) {
#if defined(__x86_64__)
    if (tables.prob_bits != 12 || lanes < 16 || active_isa() != Isa::avx512) return false;
    const EncodeProgress start = progress;
    const EncodeTask task{tables.packed.data(),
                          tables.slots.data(),
                          tables.vectors.empty() ? nullptr : tables.vectors.data(),
                          lanes,
                          layout.n,
                          layout.columns,
                          symbols.data(),
                          layout.row_context.data(),
                          layout.column_context.data()};
    if (encode_avx512(task, progress)) return true;
    progress = start;  // the scalar kernel knows which symbol it was
#endif
    return false;
}

}  // namespace

void check_layout(const Layout& layout, unsigned lanes, std::size_t n_tables) {
    if (lanes == 0 || lanes > kMaxLanes || !std::has_single_bit(lanes)) {
        throw ArgumentError("lanes must be a power of two from 1 to 64, got " + std::to_string(lanes));
    }
    if (layout.columns == 0) throw ArgumentError("columns must be at least 1");
    const std::size_t rows = layout.n / layout.columns + (layout.n % layout.columns != 0);
    if (!layout.row_context.empty() && layout.row_context.size() != rows) {
        throw ArgumentError("row_context has " + std::to_string(layout.row_context.size()) + " entries for " +
                            std::to_string(rows) + " rows");
    }
    if (!layout.column_context.empty() && layout.column_context.size() != layout.columns) {
        throw ArgumentError("column_context has " + std::to_string(layout.column_context.size()) +
                            " entries for " + std::to_string(layout.columns) + " columns");
    }
    const std::size_t most = std::size_t{greatest(layout.row_context)} + greatest(layout.column_context);
    if (most >= n_tables) {
        throw ArgumentError("context " + std::to_string(most) + " has no table: there are " +
                            std::to_string(n_tables));
    }
}

Encoder::Encoder(std::span<const Frequencies> tables) {
    check_tables(tables);
    const auto made = std::make_shared<EncodeTables>();
    made->n_tables = tables.size();
    made->prob_bits = tables.front().prob_bits;
    made->entries.resize(256 * tables.size());
    const std::size_t size = std::size_t{1} << made->prob_bits;
    made->slots.resize(size * tables.size() + 1);
    const unsigned bucket_bits = bucket_bits_for(tables);
    const unsigned width_bits = made->prob_bits - bucket_bits;
    for (std::size_t t = 0; t < tables.size(); ++t) {
        const AliasTable alias = make_alias_table(tables[t], bucket_bits);
        std::array<std::uint32_t, 256> start{};
        std::uint32_t sum = 0;
        for (unsigned rank = 0; rank < alias.ranks; ++rank) {
            start[rank] = sum;
            made->entries[256 * t + alias.symbol[rank]] = make_entry(alias.frequency[rank], sum);
            sum += alias.frequency[rank];
        }
        std::uint16_t* const slots = made->slots.data() + size * t;
        for (std::uint32_t slot = 0; slot < size; ++slot) {
            const std::uint32_t bucket = slot >> width_bits;
            const std::uint32_t low = slot & ((1U << width_bits) - 1);
            const bool own = low < alias.cut[bucket];
            const std::uint32_t place = own ? low : (low + alias.shift[bucket]) & 0xFFFF;
            slots[start[own ? bucket : alias.alias[bucket]] + place] = static_cast<std::uint16_t>(slot);
        }
    }
    if (made->prob_bits == 12) add_vectors(*made);
    tables_ = made;
}

void Encoder::encode(std::span<const std::uint8_t> symbols, const Layout& layout, unsigned lanes,
                     Bytes& out) const {
    check_layout(layout, lanes, tables_->n_tables);
    if (symbols.size() != layout.n)
        throw ArgumentError("the layout does not have as many symbols as were given");
    const auto buffer = std::make_unique_for_overwrite<std::uint16_t[]>(layout.n + kEncodeSlack);
    EncodeProgress progress;
    progress.words = buffer.get();
    std::fill_n(progress.states, kMaxLanes, kLowest);
    if (!encode_vectors(*tables_, symbols, layout, lanes, progress)) {
        encode_scalar(*tables_, symbols, layout, lanes, progress);
    }

    const auto n_words = static_cast<std::size_t>(progress.words - buffer.get());
    const std::size_t at = out.size();
    out.resize(at + 4 * lanes + 2 * n_words);
    for (unsigned lane = 0; lane < lanes; ++lane) store_le(out.data() + at + 4 * lane, progress.states[lane]);
    std::uint8_t* to = out.data() + at + 4 * lanes;
    for (std::size_t i = n_words; i-- > 0; to += 2) store_le(to, buffer[i]);
}

}  // namespace nncodec::rans
