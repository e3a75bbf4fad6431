// What the chunks of a lossless record share. Bytes: docs/format.md#lossless
#pragma once

#include <cstdint>
#include <vector>

#include "base/bytes.hpp"
#include "base/dtype.hpp"
#include "codecs/byte_plane.hpp"
#include "entropy/rans.hpp"
#include "transform/float_planes.hpp"

namespace nncodec::lossless {

// How a number is taken apart.
enum class Kind : std::uint8_t {
    raw = 0,       // not at all
    floats = 1,    // exponent -> symbol, sign and mantissa -> raw bits
    bytes = 2,     // a number of one byte is its symbol
    palette = 3,   // symbol = place in a list of at most 256 values
    integers = 4,  // one byte plane per byte of the number
};

enum class ChunkMode : std::uint8_t {
    raw = 0,       // the numbers as they are
    constant = 1,  // one element, repeated
    coded = 2,     // symbols by the model's tables
    planar = 3,    // symbols as a byte plane of their own
};

inline constexpr std::size_t kMaxClasses = 64;
inline constexpr std::size_t kMinClassColumns = 16;  // bounds the memory that a row map may ask for
inline constexpr std::size_t kMaxColumns = std::size_t{1} << 20;
inline constexpr unsigned kColumnsVersion = 2;  // payload version from which on there are column classes

// A row's class says which table its symbols use and which of its bits are raw.
struct RowClass {
    std::uint8_t raw = 0;    // index into Model::raw
    std::uint8_t table = 0;  // index into Model::tables
};

struct Model {
    Kind kind = Kind::raw;
    unsigned mantissa_in_symbol = 0;         // floats: top mantissa bits that go with the exponent
    planes::SymbolMap map;                   // floats
    std::size_t columns = 1;                 // numbers per row
    std::vector<planes::RawBits> raw;        // floats: at least one
    std::vector<rans::Frequencies> tables;   // none: all chunks are raw, constant or planar
    std::vector<RowClass> classes;           // at least one, unless kind is raw or integers
    std::vector<std::uint8_t> row_class;     // one per row; empty if there is only one class
    std::size_t column_classes = 1;          // a symbol's table: its row class's plus its column's class
    std::vector<std::uint8_t> column_class;  // one per column; empty if there is only one class
    Bytes palette;                           // the values end to end

    bool has_symbols() const noexcept { return kind != Kind::raw && kind != Kind::integers; }
};

inline constexpr unsigned kMaxMantissaInSymbol = 3;

// The top mantissa bits that go with the exponent are taken for exponent bits everywhere else.
inline NumberFormat with_mantissa_in_symbol(NumberFormat format, unsigned bits) noexcept {
    format.exponent_bits += bits;
    format.mantissa_bits -= bits;
    return format;
}

// `format` here and below: the element type's own. `effort`: for the maps.
void write_model(const Model& model, const NumberFormat& format, PlaneEffort effort, ByteWriter& out);

// `numbers`: in the whole record; a row map has one entry for each row of them. Throws DecodeError.
Model read_model(ByteView data, const NumberFormat& format, std::uint64_t numbers, unsigned version);

}  // namespace nncodec::lossless
