// The steps of the lossless encoder; only lossless_*.cpp use this header.
//
//   survey      looks at a sample of a part and says how its numbers are taken apart
//   columns     the classes of columns, if these have scales of their own that pay
//   statistics  per chunk: each row's bin (scale, unused bits) and each bin's counts of symbols
//   model       per part: bins merged into the row classes that cost least
//   chunks      per chunk: the payload
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <optional>
#include <vector>

#include "codecs/lossless.hpp"

namespace nncodec::lossless {

// A part while it is being encoded.
struct Plan {
    NumberFormat format;
    std::uint8_t dtype = 0;
    ByteView data;
    std::size_t numbers = 0;
    std::size_t chunk_numbers = 0;
    std::optional<rans::Encoder> encoder;  // for the model's tables
    Model model;  // kind, map, columns and palette by survey(), the rest by choose_columns(), choose_model()

    // Long tensors are coded in ways that decode fast, short ones in whatever way is smallest.
    bool is_long() const noexcept { return numbers > std::size_t{1} << 17; }

    std::size_t chunks() const noexcept {
        return numbers == 0 ? 0 : (numbers + chunk_numbers - 1) / chunk_numbers;
    }
    ByteView chunk(std::size_t i) const noexcept {
        const std::size_t size = chunk_numbers * format.bytes;
        return data.subspan(i * size, std::min(size, data.size() - i * size));
    }
};

Plan survey(const Part& part);

// Fills in the column classes where they pay; needs what survey() found.
void choose_columns(Plan& plan);

// Rows alike in scale and in the bits that they do not use.
struct BinKey {
    std::uint8_t zeros =
        0;              // mantissa bits that are 0 in the whole row, if they are worth a layout of their own
    bool plus = false;  // no sign bit set
    std::uint16_t level = 0;

    auto operator<=>(const BinKey&) const = default;
};

// Counts of 256 symbols for each class of columns.
struct Bin {
    explicit Bin(std::size_t column_classes = 1) : counts(256 * column_classes) {}

    std::uint64_t rows = 0;
    std::uint64_t numbers = 0;
    std::vector<std::uint64_t> counts;

    void add(const Bin& other) noexcept {
        rows += other.rows;
        numbers += other.numbers;
        for (std::size_t s = 0; s < counts.size(); ++s) counts[s] += other.counts[s];
    }
};

struct ChunkStatistics {
    std::uint64_t any = 0;  // all numbers ORed together
    std::map<BinKey, Bin> bins;
    std::vector<BinKey> rows;
};

// Symbols of the numbers in `chunk`, whose kind has symbols. Returns the numbers ORed together.
std::uint64_t make_symbols(const Plan& plan, ByteView chunk, std::span<std::uint8_t> symbols);

// Those of all chunks; sums, so that their order does not matter.
struct PartStatistics {
    std::uint64_t any = 0;
    std::map<BinKey, Bin> bins;
    std::vector<std::vector<BinKey>> rows;  // by chunk

    void add(std::size_t chunk, ChunkStatistics&& one);
};

ChunkStatistics gather(const Plan& plan, ByteView chunk);

// Fills in layouts, tables, classes and the row map.
void choose_model(Plan& plan, const PartStatistics& statistics);

// The same without tables and with one class for each layout, for parts that are too small for tables.
Model planar_model(const Model& model);

// `model` is plan.model or another for the same numbers; plan.encoder is used if it has tables.
Bytes encode_chunk(const Plan& plan, const Model& model, std::size_t chunk);

}  // namespace nncodec::lossless
