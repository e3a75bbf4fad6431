#include <algorithm>
#include <string>

#include "base/dispatch.hpp"
#include "entropy/rans_kernels.hpp"

namespace nncodec::rans {
namespace {

// Fewer lanes than vector kernels need would save a four-hundredth of such a stream and decode at a fifth of
// the speed.
constexpr unsigned kVectorLanes = 16;
constexpr std::size_t kVectorStream = 16'384;

struct Found {
    std::uint32_t frequency;
    std::uint32_t place;
    std::uint8_t symbol;
};

// prob_bits 12, the slots written out for scalar code.
struct PlainLookup {
    SlotTables::Plain slots;

    static constexpr unsigned prob_bits() noexcept { return 12; }
    PlainLookup from(std::size_t table) const noexcept {
        const std::size_t at = table << 12;
        return {{slots.frequencies + at, slots.places + at, slots.symbols + at}};
    }
    Found find(std::size_t table, std::uint32_t slot) const noexcept {
        const std::size_t at = (table << 12) + slot;
        return {slots.frequencies[at], slots.places[at], slots.symbols[at]};
    }
};

// prob_bits 12, the slots written out for gathers.
struct PackedLookup {
    const std::uint32_t* slots;

    static constexpr unsigned prob_bits() noexcept { return 12; }
    PackedLookup from(std::size_t table) const noexcept { return {slots + (table << 12)}; }
    Found find(std::size_t table, std::uint32_t slot) const noexcept {
        const std::uint32_t entry = slots[(table << 12) + slot];
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
    BucketLookup from(std::size_t table) const noexcept {
        BucketLookup result = *this;
        result.tables += table;
        return result;
    }
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

// If `state` fell below 2^16, it takes word number `word` of `words` and the number goes up. Without a
// branch: it would be mispredicted about once in five symbols, and compilers think that they know better.
inline void refill(std::uint32_t& state, const std::uint8_t* words, std::size_t& word) noexcept {
    const std::uint32_t refilled = (state << 16) | load_le<std::uint16_t>(words + 2 * word);
#if defined(__x86_64__)
    __asm__("cmpl $0x10000, %0\n\tcmovb %2, %0\n\tadc $0, %1"
            : "+r"(state), "+r"(word)
            : "r"(refilled)
            : "cc");
#else
    const bool below = state < kLowest;
    state ^= (state ^ refilled) & (0 - std::uint32_t{below});
    word += below;
#endif
}

// Decodes one row of `count` symbols from progress.column on, as long as each symbol of a step can have its
// word, and one is left to be looked at in vain: so nothing needs to be checked, and no branch depends on the
// data. A function of its own, so that the loop has the registers for itself.
template <bool has_columns, typename Lookup>
[[gnu::noinline]] void decode_steps(const Lookup lookup, const std::uint8_t* column_context, unsigned lanes,
                                    std::size_t count, DecodeProgress& progress) noexcept {
    const unsigned bits = lookup.prob_bits();
    const std::uint32_t mask = (1U << bits) - 1;
    const std::uint8_t* words = progress.words;
    std::uint8_t* const out = progress.out - progress.column;
    while (progress.column < count) {
        const std::size_t now = std::min<std::size_t>(lanes, count - progress.column);
        if (static_cast<std::size_t>(progress.end - words) < 2 * now + 2) break;
        const std::uint8_t* const contexts = has_columns ? column_context + progress.column : nullptr;
        std::uint8_t* const to = out + progress.column;
        std::size_t word = 0;
        const auto decode = [&](std::size_t lane) {
            std::uint32_t state = progress.states[lane];
            const Found found = lookup.find(has_columns ? contexts[lane] : 0, state & mask);
            state = found.frequency * (state >> bits) + found.place;
            refill(state, words, word);
            progress.states[lane] = state;
            to[lane] = found.symbol;
        };
        std::size_t lane = 0;
        for (; lane + 8 <= now; lane += 8) {
#pragma GCC unroll 8
            for (std::size_t i = 0; i < 8; ++i) decode(lane + i);
        }
        for (; lane < now; ++lane) decode(lane);
        words += 2 * word;
        progress.column += now;
    }
    progress.words = words;
    progress.out = out + progress.column;
}

// The same where words may run out. Returns whether they sufficed.
template <bool has_columns, typename Lookup>
bool decode_last_steps(const Lookup lookup, const std::uint8_t* column_context, unsigned lanes,
                       std::size_t count, DecodeProgress& progress) noexcept {
    const unsigned bits = lookup.prob_bits();
    const std::uint32_t mask = (1U << bits) - 1;
    for (; progress.column < count; ++progress.column) {
        std::uint32_t& state = progress.states[progress.column & (lanes - 1)];
        const Found found = lookup.find(has_columns ? column_context[progress.column] : 0, state & mask);
        state = found.frequency * (state >> bits) + found.place;
        *progress.out++ = found.symbol;
        if (state >= kLowest) continue;
        if (progress.end - progress.words < 2) return false;
        state = (state << 16) | load_le<std::uint16_t>(progress.words);
        progress.words += 2;
    }
    return true;
}

// Takes `progress` to the end of the symbols, with the help of `row_kernel` unless that is null. Returns
// whether the words sufficed.
template <bool has_columns, typename Lookup>
bool decode_rest(const Lookup lookup, const Layout& layout, unsigned lanes, const DecodeTask& task,
                 DecodeRow row_kernel, DecodeProgress& progress) noexcept {
    const std::uint8_t* const across = layout.column_context.data();
    const std::size_t rows = (layout.n + layout.columns - 1) / layout.columns;
    for (; progress.row < rows; ++progress.row, progress.column = 0) {
        const std::size_t count = std::min(layout.columns, layout.n - progress.row * layout.columns);
        const std::size_t table = layout.row_context.empty() ? 0 : layout.row_context[progress.row];
        if (row_kernel != nullptr && count >= lanes) row_kernel(task, table, count, progress);
        decode_steps<has_columns>(lookup.from(table), across, lanes, count, progress);
        if (!decode_last_steps<has_columns>(lookup.from(table), across, lanes, count, progress)) return false;
    }
    return true;
}

}  // namespace

Decoder::Decoder(std::span<const Frequencies> tables)
    : tables_(std::make_shared<const DecodeTables>(tables)) {}

std::size_t Decoder::n_tables() const noexcept {
    return tables_->alias.size();
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
    const DecodeTables& tables = *tables_;
    const bool registers = !tables.small.empty() && layout.column_context.empty();
    DecodeTask task{nullptr,
                    registers ? tables.small.data() : nullptr,
                    tables.bucket_bits,
                    lanes,
                    layout.n,
                    layout.columns,
                    layout.row_context.data(),
                    layout.column_context.data()};
    DecodeRow row_kernel = nullptr;
    // Writing slots out takes about as long as decoding so many symbols without.
    const bool many = tables.prob_bits == 12 && layout.n >= tables.alias.size() << 11;
    bool done = false;
#if defined(__x86_64__)
    if (tables.prob_bits == 12 && lanes >= 16) {
        const Isa isa = active_isa();
        if ((isa == Isa::avx512 && !registers) || isa == Isa::avx2) task.slots = tables.slots.packed();
        if (isa == Isa::avx512) decode_avx512(task, progress);
        if (isa == Isa::avx2) row_kernel = decode_row_avx2;
        done = isa == Isa::avx512;
    }
#elif defined(__aarch64__)
    if (active_isa() == Isa::neon && lanes >= 16 && registers) row_kernel = decode_row_neon;
#endif
    const auto rest = [&](const auto lookup) {
        return layout.column_context.empty()
                   ? decode_rest<false>(lookup, layout, lanes, task, row_kernel, progress)
                   : decode_rest<true>(lookup, layout, lanes, task, row_kernel, progress);
    };
    const bool whole = task.slots != nullptr ? rest(PackedLookup{task.slots})
                       : many && !done       ? rest(PlainLookup{tables.slots.plain()})
                                             : rest(BucketLookup(tables));
    if (!whole) throw DecodeError("rANS stream ends before its symbols");
    if (progress.words != progress.end) throw DecodeError("rANS stream goes on after its last symbol");
    for (unsigned lane = 0; lane < lanes; ++lane) {
        if (progress.states[lane] != kLowest) throw DecodeError("rANS lane does not end in its first state");
    }
}

unsigned lanes_for(std::size_t stream_bytes) noexcept {
    // A lane costs about three bytes: 32 bits of state, of which eight on average are information.
    const std::size_t affordable = stream_bytes / 3000;
    const auto lanes = static_cast<unsigned>(std::bit_floor(std::max<std::size_t>(affordable, 1)));
    return std::clamp(lanes, stream_bytes >= kVectorStream ? kVectorLanes : 1U, kMaxLanes);
}

}  // namespace nncodec::rans
