#include "entropy/rans_trellis.hpp"

#include <algorithm>
#include <array>
#include <bit>
#include <string>

#include "base/dispatch.hpp"
#include "entropy/rans_alias.hpp"
#include "entropy/rans_kernels.hpp"
#include "entropy/rans_trellis_kernels.hpp"

namespace nncodec::rans {
namespace {

constexpr unsigned kBits = 12;
constexpr std::uint32_t kSlots = 1U << kBits;

void check_pairs(std::span<const Frequencies> tables) {
    check_tables(tables);
    if (tables.size() % 2 != 0) {
        throw ArgumentError("tables come in pairs, one per union: got " + std::to_string(tables.size()));
    }
    if (tables.front().prob_bits != kBits) {
        throw ArgumentError("tables of trellis levels have 12 prob_bits, not " +
                            std::to_string(tables.front().prob_bits));
    }
}

void check_call(std::size_t n, std::span<const std::uint8_t> contexts, unsigned lanes, std::size_t n_tables) {
    if (lanes == 0 || lanes > kMaxLanes || !std::has_single_bit(lanes)) {
        throw ArgumentError("lanes must be a power of two from 1 to 64, got " + std::to_string(lanes));
    }
    if (contexts.empty()) return;
    if (contexts.size() != n) {
        throw ArgumentError("contexts has " + std::to_string(contexts.size()) + " elements, " +
                            std::to_string(n) + " are needed");
    }
    const unsigned greatest = *std::max_element(contexts.begin(), contexts.end());
    if (2 * std::size_t{greatest} >= n_tables) {
        throw ArgumentError("context " + std::to_string(greatest) + " has no tables: there are " +
                            std::to_string(n_tables / 2) + " pairs");
    }
}

void add_buckets(const AliasTable& alias, unsigned bucket_bits, std::vector<Bucket>& buckets) {
    const auto half = [&alias](unsigned rank, unsigned top) {
        return alias.symbol[rank] | ((alias.frequency[rank] - 1) & 0xFFFU) << 8 | (top & 0xFFFU) << 20;
    };
    for (unsigned b = 0; b < 1U << bucket_bits; ++b) {
        const Bucket other = half(alias.alias[b], alias.shift[b]);
        buckets.push_back(other << 32 | half(b, alias.cut[b]));
    }
}

void fill_small(const AliasTable& alias, unsigned bucket_bits, unsigned u,
                std::span<const std::int16_t> values, PairTable& table) {
    const unsigned size = 1U << bucket_bits;
    for (unsigned b = 0; b < size; ++b) {
        const unsigned at = u * size + b;
        const unsigned more = bucket_bits == 5 ? 32 * u : 0;
        table.bucket[at] = static_cast<std::uint16_t>(alias.cut[b] << 8 | (alias.alias[b] + more));
        table.shift[at] = alias.shift[b];
        table.frequency[at] = static_cast<std::uint16_t>(alias.frequency[b] | (alias.symbol[b] & 1U) << 15);
        table.value[at] = values[alias.symbol[b]];
    }
}

// The table of each element, lanes taking turns.
void interleaved_tables(std::span<const std::uint8_t> symbols, std::span<const std::uint8_t> contexts,
                        unsigned lanes, const trellis::Code& code, std::span<std::uint8_t> tables) {
    std::array<std::uint16_t, kMaxLanes> state{};
    const auto h0 = static_cast<std::uint16_t>(code.h0 >> 1);
    const auto h1 = static_cast<std::uint16_t>(code.h1 >> 1);
    for (std::size_t row = 0; row < symbols.size(); row += lanes) {
        const std::size_t active = std::min<std::size_t>(lanes, symbols.size() - row);
        const std::uint8_t* const symbol = symbols.data() + row;
        std::uint8_t* const table = tables.data() + row;
        for (std::size_t lane = 0; lane < active; ++lane) {
            const std::uint16_t s = state[lane];
            table[lane] = static_cast<std::uint8_t>(s & 1);
            state[lane] = static_cast<std::uint16_t>((s >> 1) ^ ((s & 1) * h0) ^ ((symbol[lane] & 1) * h1));
        }
        if (contexts.empty()) continue;
        for (std::size_t lane = 0; lane < active; ++lane)
            table[lane] = static_cast<std::uint8_t>(table[lane] + 2 * contexts[row + lane]);
    }
}

}  // namespace

TrellisEncoder::TrellisEncoder(std::span<const Frequencies> tables, const trellis::Code& code)
    : coder_((check_pairs(tables), tables), 2), code_(code) {}

void TrellisEncoder::encode(std::span<const std::uint8_t> symbols, std::span<const std::uint8_t> contexts,
                            unsigned lanes, Bytes& out, std::size_t unit) const {
    const std::size_t n = symbols.size();
    const EncodeTables& known = *coder_.tables_;
    check_call(n, contexts, lanes, known.n_tables);
    if (unit == kInterleaved) {
        std::vector<std::uint8_t> tables(n);
        interleaved_tables(symbols, contexts, lanes, code_, tables);
        const std::span<const std::uint8_t> columns(tables);
        coder_.encode(symbols, {n, std::max<std::size_t>(n, 1), {}, columns}, lanes, out);
        return;
    }
    const std::size_t piece = std::max<std::size_t>(trellis::piece_of(n, lanes, unit), 1);

    // Forwards: the table of each element. Backwards: the stream.
    std::vector<std::uint8_t> table_of(n);
    for (std::size_t begin = 0; begin < n; begin += piece) {
        unsigned state = 0;
        for (std::size_t i = begin; i < std::min(begin + piece, n); ++i) {
            const unsigned context = contexts.empty() ? 0U : contexts[i];
            table_of[i] = static_cast<std::uint8_t>(2 * context + trellis::Code::union_of(state));
            state = code_.next(state, symbols[i] & 1U);
        }
    }
    std::vector<std::uint32_t> states(lanes, kLowest);
    std::vector<std::uint16_t> words;
    words.reserve(n / 2);
    for (std::size_t step = piece; step-- > 0;) {
        for (unsigned lane = lanes; lane-- > 0;) {
            const std::size_t i = lane * piece + step;
            if (i >= n) continue;
            const std::size_t table = table_of[i];
            const EncodeEntry& entry = known.entries[256 * table + symbols[i]];
            if (entry.frequency == 0) {
                throw ArgumentError("symbol " + std::to_string(symbols[i]) + " has frequency 0 in table " +
                                    std::to_string(table));
            }
            std::uint32_t& state = states[lane];
            if (state >= std::uint64_t{entry.frequency} << (32 - kBits)) {
                words.push_back(static_cast<std::uint16_t>(state));
                state >>= 16;
            }
            const std::uint32_t quotient = state / entry.frequency;
            const std::uint32_t place = state - quotient * entry.frequency;
            state = (quotient << kBits) + known.slots[(table << kBits) + entry.start + place];
        }
    }
    const std::size_t at = out.size();
    out.resize(at + 4 * std::size_t{lanes} + 2 * words.size());
    std::uint8_t* to = out.data() + at;
    for (const std::uint32_t state : states) {
        store_le(to, state);
        to += 4;
    }
    for (std::size_t i = words.size(); i-- > 0; to += 2) store_le(to, words[i]);
}

TrellisDecoder::TrellisDecoder(std::span<const Frequencies> tables, std::span<const std::int16_t> values,
                               const trellis::Code& code)
    : code_(code) {
    check_pairs(tables);
    if (values.size() != 256 * tables.size()) {
        throw ArgumentError("values has " + std::to_string(values.size()) + " entries, " +
                            std::to_string(256 * tables.size()) + " are needed");
    }
    const auto made = std::make_shared<TrellisTables>();
    made->n_tables = tables.size();
    made->values.assign(values.begin(), values.end());
    made->small.resize(tables.size() / 2);
    for (std::size_t pair = 0; pair < tables.size() / 2; ++pair) {
        const unsigned bits = bucket_bits_for(tables.subspan(2 * pair, 2));
        made->pairs.push_back({made->buckets.size(), bits});
        made->same_bits = made->same_bits && bits == made->pairs.front().bucket_bits;
        for (unsigned u = 0; u < 2; ++u) {
            const AliasTable alias = make_alias_table(tables[2 * pair + u], bits);
            add_buckets(alias, bits, made->buckets);
            if (bits <= 6)
                fill_small(alias, bits, u, values.subspan(256 * (2 * pair + u), 256), made->small[pair]);
        }
    }
    tables_ = made;
}

namespace {

// Steps by vectors as far as they go; returns how many, at least one.
std::size_t decode_steps(TrellisBlock& block, std::size_t steps, unsigned lanes, bool vectors) {
    std::size_t done = 0;
#if defined(__x86_64__)
    if (vectors) {
        const bool wide = active_isa() == Isa::avx512 && lanes > 8;
        done = wide ? decode_block_avx512(block, steps, lanes) : decode_block_avx2(block, steps, lanes);
    }
#endif
    if (done != 0) return done;
    if (!decode_block_scalar(block, steps, lanes)) throw DecodeError("rANS stream ends before its symbols");
    return steps;
}

bool has_vectors(unsigned lanes) {
    return lanes >= 8 && (active_isa() == Isa::avx512 || active_isa() == Isa::avx2);
}

// How many bytes from here on are equal.
std::size_t equal_bytes(const std::uint8_t* from, std::size_t n) noexcept {
    const std::uint64_t eight = *from * 0x0101010101010101U;
    std::size_t i = 0;
    while (i + 8 <= n && load_le<std::uint64_t>(from + i) == eight) i += 8;
    while (i < n && from[i] == *from) ++i;
    return i;
}

// Steps in which all lanes have one context, as the first one does, whatever the number of its buckets.
std::size_t decode_large(const TrellisTables& tables, TrellisBlock& block, std::size_t steps,
                         unsigned lanes) {
    constexpr std::size_t kMost = 256;
    static constexpr std::uint8_t kZeros[kBlockLanes] = {};
    const std::uint8_t* const contexts = block.contexts;
    const std::size_t stride = block.context_stride;
    const std::size_t pair = *contexts;
    steps = std::min(steps, kMost);
    const std::size_t alike = stride == 0 ? steps : equal_bytes(contexts, steps * lanes) / lanes;
    block.pairs = tables.pairs.data() + pair;
    block.values = tables.values.data() + 512 * pair;
    block.contexts = kZeros;
    block.context_stride = 0;
    const std::size_t done = decode_steps(block, alike, lanes, true);
    block.pairs = tables.pairs.data();
    block.values = tables.values.data();
    block.contexts = contexts;
    block.context_stride = stride;
    return done;
}

std::size_t decode_some(const TrellisTables& tables, TrellisBlock& block, std::size_t steps, unsigned lanes) {
#if defined(__x86_64__)
    if (has_vectors(lanes)) {
        if (active_isa() == Isa::avx512 && lanes > 8) {
            if (const std::size_t done = decode_alike_avx512(block, steps, lanes); done != 0) return done;
        } else if (tables.same_bits) {
            return decode_steps(block, steps, lanes, true);
        }
        if (equal_bytes(block.contexts, lanes) == lanes) return decode_large(tables, block, steps, lanes);
        return decode_steps(block, 1, lanes, tables.same_bits);
    }
#endif
    return decode_steps(block, steps, lanes, false);
}

void decode_interleaved(const TrellisTables& tables, TrellisBlock& block,
                        std::span<const std::uint8_t> contexts, unsigned lanes, std::span<std::int16_t> out) {
    static constexpr std::uint8_t kZeros[kBlockLanes] = {};
    const std::size_t rows = out.size() / lanes;
    block.context_stride = contexts.empty() ? 0 : lanes;
    block.out_stride = lanes;
    const auto go_to = [&](std::size_t row) {
        block.contexts = contexts.empty() ? kZeros : contexts.data() + row * lanes;
        block.out = out.data() + row * lanes;
    };
    for (std::size_t row = 0; row < rows;) {
        go_to(row);
        row += decode_some(tables, block, rows - row, lanes);
    }
    const auto left = static_cast<unsigned>(out.size() - rows * lanes);
    if (left == 0) return;
    go_to(rows);
    decode_steps(block, 1, left, false);
}

void decode_pieces(TrellisBlock& block, std::span<const std::uint8_t> contexts, unsigned lanes,
                   std::span<std::int16_t> out, std::size_t unit, bool same_bits) {
    alignas(64) std::uint8_t context_rows[kBlockSteps * kBlockLanes] = {};
    alignas(64) std::int16_t out_rows[kBlockSteps * kBlockLanes];
    block.contexts = context_rows;
    block.context_stride = kBlockLanes;
    block.out = out_rows;
    block.out_stride = kBlockLanes;
    const std::size_t n = out.size();
    const std::size_t piece = std::max<std::size_t>(trellis::piece_of(n, lanes, unit), 1);
    const auto used = static_cast<unsigned>((n + piece - 1) / piece);  // lanes that hold elements
    const std::size_t last_length = used == 0 ? 0 : n - (used - 1) * piece;
    for (std::size_t first = 0; first < (used == 0 ? 0 : piece);) {
        // Up to the end of the last lane all used lanes go on, then all but that one.
        const bool all = first < last_length;
        const unsigned active = all ? used : used - 1;
        const std::size_t steps = std::min(kBlockSteps, (all ? last_length : piece) - first);
        if (!contexts.empty()) {
            for (unsigned lane = 0; lane < active; ++lane) {
                const std::uint8_t* const from = contexts.data() + lane * piece + first;
                for (std::size_t i = 0; i < steps; ++i) context_rows[i * kBlockLanes + lane] = from[i];
            }
        }
        const std::size_t done = decode_steps(block, steps, active, same_bits && has_vectors(lanes));
        for (unsigned lane = 0; lane < active; ++lane) {
            std::int16_t* const to = out.data() + lane * piece + first;
            for (std::size_t i = 0; i < done; ++i) to[i] = out_rows[i * kBlockLanes + lane];
        }
        first += done;
    }
}

}  // namespace

void TrellisDecoder::decode(ByteView stream, std::span<const std::uint8_t> contexts, unsigned lanes,
                            std::span<std::int16_t> out, std::size_t unit) const {
    const std::size_t n = out.size();
    check_call(n, contexts, lanes, tables_->n_tables);
    if (stream.size() < 4 * std::size_t{lanes}) {
        throw DecodeError("rANS stream has " + std::to_string(stream.size()) + " bytes, fewer than its " +
                          std::to_string(lanes) + " lane states");
    }
    TrellisBlock block{};
    block.pairs = tables_->pairs.data();
    block.buckets = tables_->buckets.data();
    block.small = tables_->small.data();
    block.values = tables_->values.data();
    block.h0 = static_cast<std::uint16_t>(code_.h0 >> 1);
    block.h1 = static_cast<std::uint16_t>(code_.h1 >> 1);
    block.words = stream.data() + 4 * std::size_t{lanes};
    block.end = stream.data() + stream.size();
    for (unsigned lane = 0; lane < lanes; ++lane) {
        block.rans[lane] = load_le<std::uint32_t>(stream.data() + 4 * lane);
        if (block.rans[lane] < kLowest) throw DecodeError("rANS lane state is below 2^16");
    }
    if (unit == kInterleaved) {
        decode_interleaved(*tables_, block, contexts, lanes, out);
    } else {
        decode_pieces(block, contexts, lanes, out, unit, tables_->same_bits);
    }
    if (block.words != block.end) throw DecodeError("rANS stream goes on after its last symbol");
    for (unsigned lane = 0; lane < lanes; ++lane) {
        if (block.rans[lane] != kLowest) throw DecodeError("rANS lane does not end in its first state");
    }
}

bool decode_block_scalar(TrellisBlock& block, std::size_t steps, unsigned lanes) noexcept {
    for (std::size_t i = 0; i < steps; ++i) {
        for (unsigned lane = 0; lane < lanes; ++lane) {
            std::uint32_t& rans = block.rans[lane];
            std::uint16_t& state = block.state[lane];
            const std::uint32_t context = block.contexts[i * block.context_stride + lane];
            const std::uint32_t u = state & 1U;
            const TrellisPair& pair = block.pairs[context];
            const unsigned width_bits = kBits - pair.bucket_bits;
            const Bucket bucket = block.buckets[pair.first_bucket + (u << pair.bucket_bits) +
                                                ((rans & (kSlots - 1)) >> width_bits)];
            const std::uint32_t low = rans & ((1U << width_bits) - 1);
            const bool own = low < (static_cast<std::uint32_t>(bucket) >> 20);
            const auto half = static_cast<std::uint32_t>(own ? bucket : bucket >> 32);
            const std::uint32_t place = own ? low : (low + (half >> 20)) & (kSlots - 1);
            const std::uint32_t symbol = half & 0xFF;
            rans = ((half >> 8 & 0xFFF) + 1) * (rans >> kBits) + place;
            block.out[i * block.out_stride + lane] =
                static_cast<std::int16_t>(block.values[512 * context + 256 * u + symbol]);
            state = static_cast<std::uint16_t>((state >> 1) ^ (u * block.h0) ^ ((symbol & 1) * block.h1));
            if (rans >= kLowest) continue;
            if (block.end - block.words < 2) return false;
            rans = rans << 16 | load_le<std::uint16_t>(block.words);
            block.words += 2;
        }
    }
    return true;
}

}  // namespace nncodec::rans
