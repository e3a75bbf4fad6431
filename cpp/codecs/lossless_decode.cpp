#include <algorithm>
#include <array>
#include <cstring>

#include "base/scratch.hpp"
#include "codecs/byte_plane.hpp"
#include "codecs/lossless.hpp"
#include "codecs/lossless_rows.hpp"

namespace nncodec::lossless {
namespace {

// Numbers that are joined at once: what is written stays in the nearest cache until the next step has read
// it.
constexpr std::size_t kBlock = 4096;

// Chunks of so many bytes go past the caches, unless their memory was just cleared there: a checkpoint that
// has them is larger than those anyway.
constexpr std::size_t kPastCaches = std::size_t{1} << 18;

// A plane of n bytes; a view of the payload where it lies there as it is.
ByteView read_plane(ByteReader& in, std::size_t n, Scratch& scratch) {
    if (const auto raw = raw_plane(in, n)) return *raw;
    const std::span<std::uint8_t> plane = scratch.get(n);
    decode_plane(in, plane);
    return plane;
}

struct FloatScratch {
    Scratch symbols;
    std::vector<std::array<Scratch, planes::kMaxBytePlanes + 1>> layouts;
};

// The planes of one raw-bit layout, and how many of their numbers have been used.
struct LayoutPlanes {
    planes::ConstPlanes planes;
    std::size_t count = 0;
    std::size_t used = 0;
};

void read_planes(ByteReader& in, const NumberFormat& format, const planes::RawBits& raw, LayoutPlanes& layout,
                 std::array<Scratch, planes::kMaxBytePlanes + 1>& scratch) {
    if (const unsigned bits = raw.low(format); bits != 0) {
        const ByteView packed = in.bytes(planes::packed_bits_size(layout.count, bits), "bit planes");
        const std::span<std::uint8_t> low = scratch[planes::kMaxBytePlanes].get(layout.count);
        planes::unpack_bits(packed.data(), layout.count, bits, low.data());
        layout.planes.low = low.data();
    }
    for (unsigned p = 0; p < raw.bytes(format); ++p) {
        layout.planes.bytes[p] = read_plane(in, layout.count, scratch[p]).data();
    }
}

// Sets the exponents of the numbers whose symbol is kEscape, in order.
void mend_escapes(const NumberFormat& format, std::span<const std::uint8_t> symbols, ByteView escapes,
                  std::span<std::uint8_t> out) {
    const std::uint64_t field = ((std::uint64_t{1} << format.exponent_bits) - 1) << format.mantissa_bits;
    std::size_t next = 0;
    if (escapes.empty()) return;  // saves the search in the usual case
    for (std::size_t i = 0; i < symbols.size(); ++i) {
        if (symbols[i] != planes::kEscape) continue;
        if (next == escapes.size()) throw DecodeError("more exponents are escaped than are stored");
        const std::uint64_t exponent = load_le<std::uint16_t>(escapes.data() + next);
        if (exponent >> format.exponent_bits != 0) throw DecodeError("an escaped exponent is too great");
        next += 2;
        std::uint64_t bits = 0;
        std::uint8_t* const number = out.data() + i * format.bytes;
        std::memcpy(&bits, number, format.bytes);
        bits = (bits & ~field) | exponent << format.mantissa_bits;
        std::memcpy(number, &bits, format.bytes);
    }
    if (next != escapes.size()) throw DecodeError("fewer exponents are escaped than are stored");
}

// The numbers of a sparse run: those whose symbol is not kZero come from the planes.
void join_sparse(const NumberFormat& format, const planes::SymbolMap& map, const planes::RawBits& raw,
                 std::span<const std::uint8_t> symbols, LayoutPlanes& layout, std::uint8_t* out) {
    std::array<std::uint8_t, kBlock> present;
    std::array<std::uint8_t, kBlock * 8> numbers;
    std::size_t count = 0;
    for (const std::uint8_t symbol : symbols) {
        present[count] = symbol;
        count += symbol != planes::kZero;
    }
    if (count > layout.count - layout.used) throw DecodeError("a sparse chunk has more numbers than it says");
    planes::join(format, map, raw, present.data(), count, layout.planes.advanced(layout.used),
                 numbers.data());
    layout.used += count;
    const std::uint8_t* next = numbers.data();
    std::memset(out, 0, symbols.size() * format.bytes);
    for (std::size_t i = 0; i < symbols.size(); ++i) {
        if (symbols[i] == planes::kZero) continue;
        std::memcpy(out + i * format.bytes, next, format.bytes);
        next += format.bytes;
    }
}

void decode_integers(ByteReader& in, const NumberFormat& format, std::span<std::uint8_t> out) {
    thread_local std::array<Scratch, 8> scratch;
    const std::size_t n = out.size() / format.bytes;
    const std::uint8_t delta = in.u8("filter of integers");
    if (delta > 1) in.fail("filter of integers", "is neither 0 nor 1");
    std::array<const std::uint8_t*, 8> planes{};
    for (unsigned p = 0; p < format.bytes; ++p) planes[p] = read_plane(in, n, scratch[p]).data();
    std::uint64_t previous = 0;
    for (std::size_t i = 0; i < n; ++i) {
        std::uint64_t value = 0;
        for (unsigned p = 0; p < format.bytes; ++p) value |= std::uint64_t{planes[p][i]} << (8 * p);
        if (delta != 0) {
            value = previous + ((value >> 1) ^ (0 - (value & 1)));
            previous = value;
        }
        std::memcpy(out.data() + i * format.bytes, &value, format.bytes);
    }
}

}  // namespace

Decoder::Decoder(unsigned version, std::uint8_t dtype, std::uint64_t elements, std::size_t chunk_elements,
                 ByteView model)
    : format_(number_format(dtype)),
      numbers_(elements * format_.numbers),
      chunk_numbers_(chunk_elements * format_.numbers),
      model_(read_model(model, format_, numbers_, version)) {
    if (!model_.has_symbols()) return;
    format_ = with_mantissa_in_symbol(format_, model_.mantissa_in_symbol);
    if (elements > chunk_elements && chunk_numbers_ % model_.columns != 0) {
        throw DecodeError("chunks of " + std::to_string(chunk_elements) + " elements are no whole rows");
    }
    if (!model_.tables.empty()) rans_.emplace_back(model_.tables);
    row_table_.reserve(model_.row_class.size());
    for (const std::uint8_t c : model_.row_class) row_table_.push_back(model_.classes[c].table);
    if (model_.column_class.empty() || !row_table_.empty()) return;
    // With one row class, the rows of a chunk have no tables of their own; its table goes with the columns.
    for (std::uint8_t& c : model_.column_class) c = static_cast<std::uint8_t>(c + model_.classes[0].table);
}

void Decoder::decode(std::size_t chunk, ByteView payload, std::span<std::uint8_t> out) const {
    decode_to(chunk, payload, out,
              out.size() >= kPastCaches ? planes::Destination::memory : planes::Destination::caches);
}

void Decoder::decode_fresh(std::size_t chunk, ByteView payload, std::span<std::uint8_t> out) const {
    decode_to(chunk, payload, out, planes::Destination::caches);
}

void Decoder::decode_to(std::size_t chunk, ByteView payload, std::span<std::uint8_t> out,
                        planes::Destination destination) const {
    const std::size_t element = std::size_t{format_.bytes} * format_.numbers;
    const std::uint64_t first = std::uint64_t{chunk} * chunk_numbers_;
    if (first >= numbers_ ||
        out.size() != std::min<std::uint64_t>(chunk_numbers_, numbers_ - first) * format_.bytes) {
        throw DecodeError("the chunk does not lie in its record");
    }
    ByteReader in(payload);
    const std::uint8_t mode = in.u8("mode of a chunk");
    switch (static_cast<ChunkMode>(mode)) {
        case ChunkMode::raw: {
            const ByteView raw = in.bytes(out.size(), "raw chunk");
            std::memcpy(out.data(), raw.data(), out.size());
            break;
        }
        case ChunkMode::constant: {
            const ByteView value = in.bytes(element, "value of a constant chunk");
            for (std::size_t i = 0; i < out.size(); i += element) std::memcpy(&out[i], value.data(), element);
            break;
        }
        case ChunkMode::coded:
        case ChunkMode::planar: {
            const auto row = static_cast<std::size_t>(first / model_.columns);
            switch (model_.kind) {
                case Kind::raw:
                    in.fail("mode of a chunk", "asks for a model, and there is none");
                case Kind::integers:
                    decode_integers(in, format_, out);
                    break;
                case Kind::bytes:
                    decode_symbols(in, mode, row, out);
                    break;
                case Kind::floats:
                    decode_floats(in, mode, row, out, destination);
                    break;
                case Kind::palette:
                    decode_palette(in, mode, row, out);
                    break;
            }
            break;
        }
        default:
            in.fail("mode of a chunk", "is " + std::to_string(mode) + ", none that is defined");
    }
    in.expect_end("chunk");
}

void Decoder::decode_symbols(ByteReader& in, std::uint8_t mode, std::size_t first_row,
                             std::span<std::uint8_t> out) const {
    if (static_cast<ChunkMode>(mode) == ChunkMode::planar) {
        decode_plane(in, out);
        return;
    }
    if (rans_.empty()) in.fail("mode of a chunk", "asks for tables, and there are none");
    const unsigned lanes = read_lanes(in);
    rans::Layout layout{out.size(), out.size(), {}, {}};
    const std::array<std::uint8_t, 1> only{model_.classes[0].table};
    if (row_table_.empty() && model_.column_class.empty()) {
        layout.row_context = only;
    } else {
        layout.columns = model_.columns;
        layout.column_context = model_.column_class;
        if (!row_table_.empty())
            layout.row_context = std::span(row_table_).subspan(first_row, rows_of(model_, out.size()));
    }
    rans_[0].decode(in.rest(), layout, lanes, out);
}

void Decoder::decode_palette(ByteReader& in, std::uint8_t mode, std::size_t first_row,
                             std::span<std::uint8_t> out) const {
    thread_local Scratch scratch;
    const std::span<std::uint8_t> symbols = scratch.get(out.size() / format_.bytes);
    decode_symbols(in, mode, first_row, symbols);
    std::array<std::uint8_t, 256 * 8> values{};
    std::copy(model_.palette.begin(), model_.palette.end(), values.begin());
    const std::size_t count = model_.palette.size() / format_.bytes;
    for (std::size_t i = 0; i < symbols.size(); ++i) {
        if (symbols[i] >= count) throw DecodeError("a symbol lies outside the palette");
        std::memcpy(&out[i * format_.bytes], &values[std::size_t{symbols[i]} * format_.bytes], format_.bytes);
    }
}

void Decoder::decode_floats(ByteReader& in, std::uint8_t mode, std::size_t first_row,
                            std::span<std::uint8_t> out, planes::Destination destination) const {
    thread_local FloatScratch scratch;
    const std::size_t n = out.size() / format_.bytes;
    const bool sparse = model_.map.sparse;

    ByteView escapes;
    if (model_.map.escaped) {
        escapes =
            in.bytes(2 * static_cast<std::size_t>(in.varint("number of escaped exponents", n)), "exponents");
    }
    std::vector<LayoutPlanes> layouts(model_.raw.size());
    if (scratch.layouts.size() < layouts.size()) scratch.layouts.resize(layouts.size());
    for_each_run(model_, first_row, n, n,
                 [&](std::size_t l, std::size_t, std::size_t count) { layouts[l].count += count; });
    for (std::size_t l = 0; l < layouts.size(); ++l) {
        LayoutPlanes& layout = layouts[l];
        if (layout.count == 0) continue;
        if (sparse)
            layout.count = static_cast<std::size_t>(in.varint("numbers that are not zero", layout.count));
        read_planes(in, format_, model_.raw[l], layout, scratch.layouts[l]);
    }
    const std::span<std::uint8_t> symbols = scratch.symbols.get(n);
    decode_symbols(in, mode, first_row, symbols);

    if (model_.map.escaped) destination = planes::Destination::caches;  // they are mended there
    for_each_run(model_, first_row, n, kBlock, [&](std::size_t l, std::size_t first, std::size_t count) {
        LayoutPlanes& layout = layouts[l];
        std::uint8_t* const to = out.data() + first * format_.bytes;
        if (sparse) {
            join_sparse(format_, model_.map, model_.raw[l], symbols.subspan(first, count), layout, to);
        } else {
            planes::join(format_, model_.map, model_.raw[l], symbols.data() + first, count,
                         layout.planes.advanced(layout.used), to, destination);
            layout.used += count;
        }
    });
    if (destination == planes::Destination::memory) planes::finish_memory();
    for (const LayoutPlanes& layout : layouts) {
        if (layout.used != layout.count) throw DecodeError("a sparse chunk has fewer numbers than it says");
    }
    if (model_.map.escaped) mend_escapes(format_, symbols, escapes, out);
}

}  // namespace nncodec::lossless
