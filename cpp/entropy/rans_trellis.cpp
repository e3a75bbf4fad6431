#include "entropy/rans_trellis.hpp"

#include <algorithm>
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

// Calls visit(slot, rank, place) for all slots of a table, ascending.
template <typename Visit>
void for_each_slot(const AliasTable& table, unsigned bucket_bits, Visit visit) {
    const unsigned width_bits = kBits - bucket_bits;
    for (std::uint32_t slot = 0; slot < kSlots; ++slot) {
        const std::uint32_t bucket = slot >> width_bits;
        const std::uint32_t low = slot & ((1U << width_bits) - 1);
        const bool own = low < table.cut[bucket];
        visit(slot, own ? bucket : table.alias[bucket], own ? low : (low + table.shift[bucket]) & 0xFFFF);
    }
}

}  // namespace

TrellisEncoder::TrellisEncoder(std::span<const Frequencies> tables, const trellis::Code& code) : code_(code) {
    check_pairs(tables);
    const auto made = std::make_shared<EncodeTables>();
    made->n_tables = tables.size();
    made->entries.resize(256 * tables.size());
    made->slots.resize(tables.size() << kBits);
    const unsigned bucket_bits = bucket_bits_for(tables);
    for (std::size_t t = 0; t < tables.size(); ++t) {
        std::uint32_t start = 0;
        for (std::size_t s = 0; s < tables[t].of.size(); ++s) {
            made->entries[256 * t + s] = {0, tables[t].of[s], start};
            start += tables[t].of[s];
        }
        const AliasTable alias = make_alias_table(tables[t], bucket_bits);
        for_each_slot(alias, bucket_bits, [&](std::uint32_t slot, std::uint32_t rank, std::uint32_t place) {
            const EncodeEntry& entry = made->entries[256 * t + alias.symbol[rank]];
            made->slots[(t << kBits) + entry.start + place] = static_cast<std::uint16_t>(slot);
        });
    }
    tables_ = made;
}

void TrellisEncoder::encode(std::span<const std::uint8_t> symbols, std::span<const std::uint8_t> contexts,
                            unsigned lanes, Bytes& out, std::size_t unit) const {
    const std::size_t n = symbols.size();
    check_call(n, contexts, lanes, tables_->n_tables);
    const std::size_t piece =
        std::max<std::size_t>(trellis::piece_of(n, lanes, std::max<std::size_t>(unit, 1)), 1);

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
            const EncodeEntry& entry = tables_->entries[256 * table + symbols[i]];
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
            state = (quotient << kBits) + tables_->slots[(table << kBits) + entry.start + place];
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

TrellisDecoder::TrellisDecoder(std::span<const Frequencies> tables, std::span<const float> points,
                               const trellis::Code& code)
    : code_(code) {
    check_pairs(tables);
    if (points.size() != 256 * tables.size()) {
        throw ArgumentError("points has " + std::to_string(points.size()) + " entries, " +
                            std::to_string(256 * tables.size()) + " are needed");
    }
    const auto made = std::make_shared<TrellisTables>();
    made->n_tables = tables.size();
    made->points.assign(points.begin(), points.end());
    made->slots.reserve(tables.size() << kBits);
    const unsigned bucket_bits = bucket_bits_for(tables);
    for (const Frequencies& table : tables) {
        const AliasTable alias = make_alias_table(table, bucket_bits);
        for_each_slot(alias, bucket_bits, [&](std::uint32_t, std::uint32_t rank, std::uint32_t place) {
            made->slots.push_back((alias.frequency[rank] - 1) << 20 | place << 8 | alias.symbol[rank]);
        });
    }
    tables_ = made;
}

void TrellisDecoder::decode(ByteView stream, std::span<const std::uint8_t> contexts, unsigned lanes,
                            std::span<float> values, std::size_t unit) const {
    const std::size_t n = values.size();
    check_call(n, contexts, lanes, tables_->n_tables);
    if (stream.size() < 4 * std::size_t{lanes}) {
        throw DecodeError("rANS stream has " + std::to_string(stream.size()) + " bytes, fewer than its " +
                          std::to_string(lanes) + " lane states");
    }
    TrellisBlock block{};
    block.slots = tables_->slots.data();
    block.points = tables_->points.data();
    block.h0 = code_.h0 >> 1;
    block.h1 = code_.h1 >> 1;
    block.words = stream.data() + 4 * std::size_t{lanes};
    block.end = stream.data() + stream.size();
    for (unsigned lane = 0; lane < lanes; ++lane) {
        block.rans[lane] = load_le<std::uint32_t>(stream.data() + 4 * lane);
        if (block.rans[lane] < kLowest) throw DecodeError("rANS lane state is below 2^16");
    }
    [[maybe_unused]] const bool vectors = active_isa() == Isa::avx512 && lanes >= 16;
    const std::size_t piece =
        std::max<std::size_t>(trellis::piece_of(n, lanes, std::max<std::size_t>(unit, 1)), 1);
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
                for (std::size_t i = 0; i < steps; ++i) block.contexts[i * kBlockLanes + lane] = from[i];
            }
        }
        std::size_t done = 0;
#if defined(__x86_64__)
        if (vectors) done = decode_block_avx512(block, steps, active);
#endif
        if (done == 0 && !decode_block_scalar(block, steps, active)) {
            throw DecodeError("rANS stream ends before its symbols");
        }
        if (done == 0) done = steps;
        for (unsigned lane = 0; lane < active; ++lane) {
            float* const to = values.data() + lane * piece + first;
            for (std::size_t i = 0; i < done; ++i) to[i] = block.values[i * kBlockLanes + lane];
        }
        first += done;
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
            std::uint32_t& state = block.state[lane];
            const std::uint32_t table = 2U * block.contexts[i * kBlockLanes + lane] + (state & 1);
            const std::uint32_t entry = block.slots[table * kSlots + (rans & (kSlots - 1))];
            const std::uint32_t symbol = entry & 0xFF;
            rans = ((entry >> 20) + 1) * (rans >> kBits) + (entry >> 8 & 0xFFF);
            block.values[i * kBlockLanes + lane] = block.points[256 * table + symbol];
            state = (state >> 1) ^ ((state & 1) * block.h0) ^ ((symbol & 1) * block.h1);
            if (rans >= kLowest) continue;
            if (block.end - block.words < 2) return false;
            rans = rans << 16 | load_le<std::uint16_t>(block.words);
            block.words += 2;
        }
    }
    return true;
}

}  // namespace nncodec::rans
