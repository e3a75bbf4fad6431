#include <algorithm>
#include <string>

#include "codecs/weightless.hpp"

namespace nncodec::weightless {
namespace {

// A shard has no fewer positions than this (but for the only one), and a third of a Bloomier table or an
// eighth of a ribbon no more cells than positions, or than the least for an only shard or one of several: a
// few bytes cannot ask for much memory. Encoders need at most keys / 4 + 257 (ribbon, after the last seed) or
// keys (Bloomier).
constexpr std::size_t kLeastShard = 256;
constexpr std::size_t kLeastCells = 4096;
constexpr std::size_t kLeastCellsOfSeveral = 2 * kLeastShard;

constexpr std::uint64_t kMaxSeed = UINT32_MAX;

// Keys of one ribbon: their surplus varies as sqrt(keys) / 2 and must fit half a window of four words.
constexpr std::size_t kShardKeys = 4096;
constexpr std::size_t kMostShardKeys = 6144;

ribbon::Table ribbon_of(const Model& model, const Table& table, unsigned bits) noexcept {
    return {{table.cells * 8, bits, model.words}, retrieval::state_of(table.seed), table.data};
}

bloomier::Table bloomier_of(const Table& table, unsigned bits) noexcept {
    return {{table.cells, bits}, retrieval::state_of(table.seed), table.data};
}

std::size_t bytes_of(const Model& model, std::uint32_t cells, unsigned bits) noexcept {
    return model.structure == Structure::ribbon ? ribbon::table_bytes({cells * 8, bits, model.words})
                                                : bloomier::table_bytes({cells, bits});
}

std::uint16_t code_at(const Model& model, const Table& table, unsigned bits, Key key) noexcept {
    if (table.cells == 0) return UINT16_MAX;
    return model.structure == Structure::ribbon ? ribbon::query(ribbon_of(model, table, bits), key)
                                                : bloomier::query(bloomier_of(table, bits), key);
}

void prefetch(const Model& model, const Table& table, Key key) noexcept {
    if (table.cells == 0) return;
    if (model.structure == Structure::ribbon) {
        ribbon::prefetch(ribbon_of(model, table, model.bits), key);
    } else {
        bloomier::prefetch(bloomier_of(table, model.bits), key);
    }
}

void hits_of(const Model& model, const Table& table, Key first, Key end, std::vector<Hit>& out) {
    if (table.cells == 0) return;
    if (model.structure == Structure::ribbon) {
        ribbon::hits(ribbon_of(model, table, model.bits), first, end, model.values, out);
    } else {
        bloomier::hits(bloomier_of(table, model.bits), first, end, model.values, out);
    }
}

bool is_key(const Model& model, const Shard& shard, Key position) noexcept {
    return !model.exact || code_at(model, shard.flags, 1, position) == 1;
}

// A table and the bytes that it lives in.
struct Built {
    std::uint32_t cells = 0;
    std::uint64_t seed = 0;
    Bytes data;
};

// Cells for so many keys after so many seeds that did not work.
std::uint32_t cells_for(const Model& model, std::size_t keys, unsigned failures) noexcept {
    if (model.structure == Structure::ribbon) {
        // Sixteen tries, then 1/64 more at a time: a few slots are enough, but for accidents.
        const std::size_t slots = keys + 4 + 8 * (failures / 4) + (failures / 16) * (keys / 64);
        return static_cast<std::uint32_t>((slots + 7) / 8);
    }
    // 1.23, from sixteen failures on more: small graphs are often hard to peel.
    const std::size_t hundredths = 123 + 2 * (failures / 16);
    return static_cast<std::uint32_t>((keys * hundredths + 299) / 300);
}

Built build(const Model& model, unsigned bits, std::span<const Key> keys,
            std::span<const std::uint16_t> codes, std::uint64_t seed) {
    Built built;
    if (keys.empty()) return built;
    for (unsigned failures = 0; failures < 1024; ++failures) {
        built.cells = cells_for(model, keys.size(), failures);
        built.seed = (seed + failures) & kMaxSeed;
        auto data = model.structure == Structure::ribbon
                        ? ribbon::build(keys, codes, {built.cells * 8, bits, model.words}, built.seed)
                        : bloomier::build(keys, codes, {built.cells, bits}, built.seed);
        if (!data) continue;
        built.data = std::move(*data);
        return built;
    }
    throw ArgumentError("no seed gives a table of " + std::to_string(keys.size()) + " keys");
}

Table view(const Built& built) noexcept {
    return {built.cells, built.seed, built.data, {}};
}

// Flags of all positions whose code is a value: 1 for keys.
Built build_flags(const Model& model, const Shard& shard, std::span<const Key> keys, std::uint64_t seed) {
    std::vector<Hit> passing;
    hits_of(model, shard.codes, shard.first, shard.end, passing);
    std::vector<Key> positions;
    std::vector<std::uint16_t> flags;
    std::size_t at = 0;
    for (const Hit& hit : passing) {
        const bool is = at < keys.size() && keys[at] == hit.position;
        at += is;
        positions.push_back(hit.position);
        flags.push_back(is);
    }
    return build(model, 1, positions, flags, seed);
}

// How many ranges a chunk's positions are cut into, so that none has too many keys for a ribbon.
std::size_t shards_for(const Model& model, std::span<const Key> keys, std::size_t positions) {
    if (model.structure == Structure::bloomier || keys.empty()) return 1;
    std::size_t passing = keys.size();
    if (model.exact) passing += (((positions - keys.size()) * model.values) >> model.bits);
    std::size_t shards = (passing + kShardKeys - 1) / kShardKeys;
    for (; shards < positions / kLeastShard; shards += (shards + 7) / 8) {
        const std::size_t size = (positions + shards - 1) / shards;
        std::size_t most = 0;
        std::size_t here = 0;
        std::size_t range = 0;
        for (const Key key : keys) {
            here = key / size == range ? here + 1 : 1;
            range = key / size;
            most = std::max(most, here);
        }
        // Positions that pass by chance are spread evenly.
        if (most + (passing - keys.size()) / shards <= kMostShardKeys) break;
    }
    return std::clamp<std::size_t>(shards, 1, std::max<std::size_t>(positions / kLeastShard, 1));
}

void write_head(ByteWriter& out, const Built& built) {
    out.varint(built.cells);
    if (built.cells != 0) out.varint(built.seed);
}

Table read_head(ByteReader& in, std::size_t most, const char* what) {
    Table table;
    table.cells = static_cast<std::uint32_t>(in.varint(what, most));
    if (table.cells != 0) table.seed = in.varint("seed", kMaxSeed);
    return table;
}

}  // namespace

Chunk::Chunk(const Model& model, ByteView payload, std::size_t positions) : model_(model) {
    ByteReader in(payload);
    const std::size_t shards =
        in.varint("number of shards", std::max<std::size_t>(positions / kLeastShard, 1));
    if (shards == 0) in.fail("number of shards", "is 0");
    shard_positions_ = (positions + shards - 1) / shards;
    shards_.reserve(shards);
    const std::size_t least = shards == 1 ? kLeastCells : kLeastCellsOfSeveral;
    for (std::size_t s = 0; s < shards; ++s) {
        Shard shard;
        shard.first = static_cast<Key>(std::min(s * shard_positions_, positions));
        shard.end = static_cast<Key>(std::min((s + 1) * shard_positions_, positions));
        const std::size_t most = std::max<std::size_t>(shard.end - shard.first, least);
        shard.codes = read_head(in, most, "cells");
        if (model.exact && shard.codes.cells != 0) shard.flags = read_head(in, most, "cells of flags");
        shards_.push_back(shard);
    }
    for (Shard& shard : shards_) {
        const auto take = [&](Table& table, unsigned bits) {
            if (table.cells == 0) return;
            if (model.packed) {
                table.stream = in.block("cells");
            } else {
                table.data = in.bytes(bytes_of(model, table.cells, bits), "cells");
            }
        };
        take(shard.codes, model.bits);
        take(shard.flags, 1);
    }
    in.expect_end("payload");
    if (model.packed) expand();
}

void Chunk::expand() {
    expanded_.reserve(2 * shards_.size());
    const auto unpack = [&](Table& table, unsigned bits) {
        if (table.cells == 0) return;
        expanded_.push_back(bloomier::expand({table.cells, bits}, table.stream));
        table.data = expanded_.back();
    };
    for (Shard& shard : shards_) {
        unpack(shard.codes, model_.bits);
        unpack(shard.flags, 1);
    }
}

void Chunk::hits(std::vector<Hit>& out) const {
    for (const Shard& shard : shards_) {
        const std::size_t from = out.size();
        hits_of(model_, shard.codes, shard.first, shard.end, out);
        if (!model_.exact) continue;
        const auto here = out.begin() + static_cast<std::ptrdiff_t>(from);
        out.erase(std::remove_if(here, out.end(),
                                 [&](const Hit& hit) { return !is_key(model_, shard, hit.position); }),
                  out.end());
    }
}

void Chunk::look_up(std::span<const Key> positions, std::span<std::uint16_t> codes) const {
    constexpr std::size_t kAhead = 16;
    for (std::size_t i = 0; i < positions.size(); ++i) {
        if (i % kAhead == 0) {
            for (const Key ahead : positions.subspan(i, std::min(kAhead, positions.size() - i)))
                prefetch(model_, shards_[ahead / shard_positions_].codes, ahead);
        }
        const Shard& shard = shards_[positions[i] / shard_positions_];
        const std::uint16_t code = code_at(model_, shard.codes, model_.bits, positions[i]);
        codes[i] = code < model_.values && is_key(model_, shard, positions[i])
                       ? code
                       : static_cast<std::uint16_t>(model_.values);
    }
}

Bytes encode_chunk(const Model& model, std::span<const Key> keys, std::span<const std::uint16_t> codes,
                   std::size_t positions, std::uint64_t seed) {
    const std::size_t shards = shards_for(model, keys, positions);
    const std::size_t size = (positions + shards - 1) / shards;
    ByteWriter head;
    ByteWriter tables;
    head.varint(shards);
    std::size_t at = 0;
    for (std::size_t s = 0; s < shards; ++s) {
        Shard shard;
        shard.first = static_cast<Key>(std::min(s * size, positions));
        shard.end = static_cast<Key>(std::min((s + 1) * size, positions));
        const std::size_t from = at;
        while (at < keys.size() && keys[at] < shard.end) ++at;
        const auto mine = keys.subspan(from, at - from);
        const auto put = [&](const Built& built, unsigned bits) {
            write_head(head, built);
            if (built.cells == 0) return;
            if (model.packed) {
                tables.block(bloomier::shrink(bloomier_of(view(built), bits)));
            } else {
                tables.bytes(built.data);
            }
        };
        const Built built = build(model, model.bits, mine, codes.subspan(from, at - from), seed);
        put(built, model.bits);
        if (!model.exact || built.cells == 0) continue;
        shard.codes = view(built);
        put(build_flags(model, shard, mine, seed), 1);
    }
    head.bytes(tables.data());
    return head.take();
}

}  // namespace nncodec::weightless
