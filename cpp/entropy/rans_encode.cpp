#include <algorithm>
#include <bit>
#include <memory>
#include <string>

#include "base/dispatch.hpp"
#include "base/scratch.hpp"
#include "entropy/rans_kernels.hpp"

namespace nncodec::rans {
namespace {

// With P = prob_bits and f <= 2^P, floor(x * ceil(2^(32+P) / f) / 2^(32+P)) == floor(x / f) for x < f *
// 2^(32-P), which holds where encode_symbol divides: rounding up adds less than x / 2^(32+P) <= f / 2^(2P) <=
// 1 / f to the quotient. Nor does the product reach 2^64.
inline EncodeEntry make_entry(std::uint32_t frequency, std::uint32_t start, unsigned prob_bits) noexcept {
    const std::uint64_t one = std::uint64_t{1} << (32 + prob_bits);
    return {(one + frequency - 1) / frequency, frequency, start};
}

// state = full ? state >> 16 : state, and one word more if full, where full says that the new state would not
// fit 32 bits: `top` (state's highest prob_bits bits) >= frequency. Without a branch, as in decoding.
inline void make_room(std::uint32_t& state, std::uint32_t top, std::uint32_t frequency,
                      std::ptrdiff_t& word) noexcept {
#if defined(__x86_64__)
    __asm__("cmpl %3, %2\n\tcmovae %4, %0\n\tadc $-1, %1"
            : "+r"(state), "+r"(word)
            : "r"(top), "r"(frequency), "r"(state >> 16)
            : "cc");
#else
    const bool full = top >= frequency;
    state = full ? state >> 16 : state;
    word -= full;
#endif
}

[[noreturn]] void refuse(std::uint8_t symbol, std::size_t table) {
    throw ArgumentError("symbol " + std::to_string(symbol) + " has frequency 0 in table " +
                        std::to_string(table));
}

// Coding of one row.
struct RowEncoder {
    const EncodeEntry* entries;
    const std::uint16_t* slots;
    unsigned prob_bits;
    std::size_t row_table;
    const std::uint8_t* symbols;
    const std::uint8_t* column_context;  // null: 0 everywhere

    RowEncoder(const EncodeTables& tables, const EncodeTask& task, std::size_t row) noexcept
        : entries(tables.entries.data()),
          slots(tables.slots.data()),
          prob_bits(tables.prob_bits),
          row_table(task.row_context == nullptr ? 0 : task.row_context[row]),
          symbols(task.symbols + row * task.columns),
          column_context(task.column_context) {}

    // Pushes the symbols of the columns first .. end - 1, which lie in one step, from the last to the first.
    void encode(std::size_t first, std::size_t end, std::size_t lanes, EncodeProgress& progress) const {
        column_context == nullptr ? encode_step<false>(first, end, lanes, progress)
                                  : encode_step<true>(first, end, lanes, progress);
    }

  private:
    template <bool kColumns>
    [[gnu::noinline]] void encode_step(std::size_t first, std::size_t end, std::size_t lanes,
                                       EncodeProgress& progress) const {
        const EncodeEntry* const row_entries = entries + (row_table << 8);
        const std::uint16_t* const row_slots = slots + (row_table << prob_bits);
        const std::uint8_t* const from = symbols + first;
        std::uint32_t* const states = progress.states + (first & (lanes - 1));
        std::uint16_t* const words = progress.words - 1;
        std::ptrdiff_t word = 0;
        const auto push = [&](std::size_t i) {
            const std::size_t column_table = kColumns ? column_context[first + i] : 0;
            const EncodeEntry& entry = row_entries[(column_table << 8) + from[i]];
            if (entry.frequency == 0) [[unlikely]]
                refuse(from[i], row_table + column_table);
            std::uint32_t state = states[i];
            words[word] = static_cast<std::uint16_t>(state);
            make_room(state, state >> (32 - prob_bits), entry.frequency, word);
            const auto quotient = static_cast<std::uint32_t>((state * entry.reciprocal) >> (32 + prob_bits));
            const std::uint32_t place = state - quotient * entry.frequency;
            states[i] =
                (quotient << prob_bits) + row_slots[(column_table << prob_bits) + entry.start + place];
        };
        std::size_t left = end - first;
        for (; left % 8 != 0; --left) push(left - 1);
        for (; left != 0; left -= 8) {
#pragma GCC unroll 8
            for (std::size_t i = 1; i <= 8; ++i) push(left - i);
        }
        progress.words += word;
    }
};

std::uint8_t greatest(std::span<const std::uint8_t> contexts) noexcept {
    return contexts.empty() ? std::uint8_t{0} : *std::max_element(contexts.begin(), contexts.end());
}

void add_vectors(EncodeTables& tables) {
    tables.packed.reserve(tables.entries.size());
    tables.divisor.reserve(tables.entries.size());
    for (const EncodeEntry& entry : tables.entries) {
        tables.packed.push_back(entry.start << 16 | entry.frequency);
        tables.divisor.push_back(entry.frequency == 0 ? 0 : UINT32_MAX / entry.frequency);
    }
    tables.vectors.resize(tables.n_tables);
    for (std::size_t t = 0; t < tables.n_tables; ++t) {
        EncodeVectors& table = tables.vectors[t];
        std::uint8_t ranks = 0;
        for (std::size_t s = 0; s < 256; ++s) {
            const EncodeEntry& entry = tables.entries[256 * t + s];
            table.rank[s] = kNoRank;
            if (entry.frequency == 0) continue;
            if (ranks == kNoRank) {
                tables.vectors = {};
                return;
            }
            table.frequency[ranks] = static_cast<std::uint16_t>(entry.frequency);
            table.start[ranks] = static_cast<std::uint16_t>(entry.start);
            table.rank[s] = ranks++;
        }
    }
}

// All rows from the last to the first, with the help of AVX2 where that is asked for.
void encode_rows(const EncodeTables& tables, const EncodeTask& task, [[maybe_unused]] bool avx2,
                 EncodeProgress& progress) {
    for (std::size_t row = (task.n + task.columns - 1) / task.columns; row-- > 0;) {
        const RowEncoder encoder(tables, task, row);
        std::size_t end = std::min(task.columns, task.n - row * task.columns);
        while (end != 0) {
#if defined(__x86_64__)
            if (avx2 && end % task.lanes == 0) {
                const EncodeProgress start = progress;
                if (encode_steps_avx2(task, encoder.row_table, row * task.columns, end / task.lanes,
                                      progress))
                    break;
                progress = start;  // the scalar kernel knows which symbol it was
                avx2 = false;
            }
#endif
            const std::size_t first = (end - 1) & ~(std::size_t{task.lanes} - 1);
            encoder.encode(first, end, task.lanes, progress);
            end = first;
        }
    }
}

void encode_symbols(const EncodeTables& tables, const EncodeTask& task, EncodeProgress& progress) {
    bool avx2 = false;
#if defined(__x86_64__)
    if (tables.prob_bits == 12 && task.lanes >= 16) {
        const Isa isa = active_isa();
        avx2 = isa == Isa::avx2;
        const EncodeProgress start = progress;
        if (isa == Isa::avx512 && encode_avx512(task, progress)) return;
        progress = start;  // as above
    }
#endif
    encode_rows(tables, task, avx2, progress);
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

Encoder::Encoder(std::span<const Frequencies> tables, std::size_t group) {
    check_tables(tables);
    const auto made = std::make_shared<EncodeTables>();
    made->n_tables = tables.size();
    made->prob_bits = tables.front().prob_bits;
    made->entries.resize(256 * tables.size());
    const std::size_t size = std::size_t{1} << made->prob_bits;
    made->slots.resize(size * tables.size() + 1);
    unsigned bucket_bits = 0;
    for (std::size_t t = 0; t < tables.size(); ++t) {
        if (t % group == 0)
            bucket_bits = bucket_bits_for(tables.subspan(t, std::min(group, tables.size() - t)));
        const unsigned width_bits = made->prob_bits - bucket_bits;
        const AliasTable alias = make_alias_table(tables[t], bucket_bits);
        std::array<std::uint32_t, 256> start{};
        std::uint32_t sum = 0;
        for (unsigned rank = 0; rank < alias.ranks; ++rank) {
            start[rank] = sum;
            made->entries[256 * t + alias.symbol[rank]] =
                make_entry(alias.frequency[rank], sum, made->prob_bits);
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
    // Kept between calls: fresh memory would cost a page fault every two thousand symbols.
    thread_local Scratch scratch;
    const std::size_t room = layout.n + kEncodeSlack;
    auto* const end = reinterpret_cast<std::uint16_t*>(scratch.get(2 * room).data()) + room;
    EncodeProgress progress;
    progress.words = end;
    std::fill_n(progress.states, kMaxLanes, kLowest);
    const EncodeTask task{tables_->packed.data(),
                          tables_->divisor.data(),
                          tables_->slots.data(),
                          tables_->vectors.empty() ? nullptr : tables_->vectors.data(),
                          lanes,
                          layout.n,
                          layout.columns,
                          symbols.data(),
                          layout.row_context.data(),
                          layout.column_context.data()};
    encode_symbols(*tables_, task, progress);

    const auto n_words = static_cast<std::size_t>(end - progress.words);
    // Appended, not written into a longer `out`, which would be cleared first. Words lie in memory as in the
    // stream (base/bytes.hpp refuses other hosts).
    const auto append = [&](const void* from, std::size_t bytes) {
        const auto* const first = static_cast<const std::uint8_t*>(from);
        out.insert(out.end(), first, first + bytes);
    };
    append(progress.states, 4 * lanes);
    append(progress.words, 2 * n_words);
}

}  // namespace nncodec::rans
