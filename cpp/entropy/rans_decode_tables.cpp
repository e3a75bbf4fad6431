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

// Calls visit(first slot, count, rank, place of the first) for each run of slots of one symbol, ascending;
// prob_bits is 12.
template <typename Visit>
void for_each_run(const AliasTable& table, unsigned bucket_bits, Visit visit) {
    const std::uint32_t width = 1U << (12 - bucket_bits);
    for (std::uint32_t bucket = 0; bucket < 1U << bucket_bits; ++bucket) {
        const std::uint32_t first = bucket * width;
        const std::uint32_t cut = table.cut[bucket];
        visit(first, cut, bucket, 0U);
        visit(first + cut, width - cut, table.alias[bucket], (cut + table.shift[bucket]) & 0xFFFF);
    }
}

}  // namespace

const std::uint32_t* SlotTables::packed() const {
    std::call_once(packed_once_, [this] {
        packed_.resize(alias_.size() << 12);
        std::uint32_t* to = packed_.data();
        for (const AliasTable& table : alias_) {
            for_each_run(table, bucket_bits_,
                         [&](std::uint32_t, std::uint32_t count, std::uint32_t rank, std::uint32_t place) {
                             const std::uint32_t entry =
                                 (table.frequency[rank] - 1) << 20 | place << 8 | table.symbol[rank];
                             for (std::uint32_t i = 0; i < count; ++i) to[i] = entry + (i << 8);
                             to += count;
                         });
        }
    });
    return packed_.data();
}

SlotTables::Plain SlotTables::plain() const {
    std::call_once(plain_once_, [this] {
        frequencies_.resize(alias_.size() << 12);
        places_.resize(alias_.size() << 12);
        symbols_.resize(alias_.size() << 12);
        std::size_t at = 0;
        for (const AliasTable& table : alias_) {
            for_each_run(table, bucket_bits_,
                         [&](std::uint32_t, std::uint32_t count, std::uint32_t rank, std::uint32_t place) {
                             const auto frequency = static_cast<std::uint16_t>(table.frequency[rank]);
                             for (std::uint32_t i = 0; i < count; ++i) {
                                 frequencies_[at + i] = frequency;
                                 places_[at + i] = static_cast<std::uint16_t>(place + i);
                                 symbols_[at + i] = table.symbol[rank];
                             }
                             at += count;
                         });
        }
    });
    return {frequencies_.data(), places_.data(), symbols_.data()};
}

DecodeTables::DecodeTables(std::span<const Frequencies> tables)
    : prob_bits((check_tables(tables), tables.front().prob_bits)),
      bucket_bits(bucket_bits_for(tables)),
      slots(alias, bucket_bits) {
    alias.reserve(tables.size());
    for (const Frequencies& table : tables) alias.push_back(make_alias_table(table, bucket_bits));
    if (prob_bits != 12 || bucket_bits > 6) return;
    small.reserve(tables.size());
    for (const AliasTable& table : alias) small.push_back(make_small_table(table));
}

}  // namespace nncodec::rans
