#include "codecs/lossless_model.hpp"

namespace nncodec::lossless {
namespace {

enum Flags : std::uint8_t { kEscaped = 1, kSparse = 2, kTables = 4, kColumns = 8 };

std::uint8_t known_flags(unsigned version) noexcept {
    return kEscaped | kSparse | kTables | (version >= kColumnsVersion ? kColumns : 0);
}

void write_floats(const Model& model, ByteWriter& out) {
    out.u8(static_cast<std::uint8_t>(model.mantissa_in_symbol));
    if (model.map.escaped) out.varint(static_cast<std::uint64_t>(model.map.base + 1));
    out.u8(static_cast<std::uint8_t>(model.raw.size()));
    for (const planes::RawBits& raw : model.raw) {
        out.u8(static_cast<std::uint8_t>(raw.zeros));
        out.u8(raw.plus ? 1 : 0);
    }
}

void read_floats(ByteReader& in, const NumberFormat& type, Model& model) {
    model.mantissa_in_symbol = in.u8("mantissa bits in symbols");
    if (model.mantissa_in_symbol > kMaxMantissaInSymbol) in.fail("mantissa bits in symbols", "are too many");
    const NumberFormat format = with_mantissa_in_symbol(type, model.mantissa_in_symbol);
    if (model.map.escaped) {
        const std::uint64_t most = std::uint64_t{1} << format.exponent_bits;
        model.map.base = static_cast<std::int32_t>(in.varint("exponent base", most)) - 1;
    } else if (format.exponent_bits > 8) {
        in.fail("exponents", "of this type need escapes");
    }
    const std::size_t count = in.u8("number of raw-bit layouts");
    if (count == 0 || count > kMaxClasses)
        in.fail("number of raw-bit layouts", "is " + std::to_string(count));
    for (std::size_t i = 0; i < count; ++i) {
        planes::RawBits raw;
        raw.zeros = in.u8("zero mantissa bits");
        if (raw.zeros > format.mantissa_bits) in.fail("zero mantissa bits", "are more than the mantissa has");
        const std::uint8_t sign = in.u8("sign of a raw-bit layout");
        if (sign > 1) in.fail("sign of a raw-bit layout", "is neither 0 nor 1");
        raw.plus = sign == 1;
        model.raw.push_back(raw);
    }
}

void read_classes(ByteReader& in, Model& model, std::uint64_t numbers) {
    const std::size_t count = in.u8("number of row classes");
    if (count == 0 || count > kMaxClasses) in.fail("number of row classes", "is " + std::to_string(count));
    for (std::size_t i = 0; i < count; ++i) {
        RowClass row_class;
        row_class.raw = in.u8("raw-bit layout of a class");
        row_class.table = in.u8("table of a class");
        const std::size_t layouts = model.kind == Kind::floats ? model.raw.size() : 1;
        if (row_class.raw >= layouts) in.fail("raw-bit layout of a class", "does not exist");
        if (row_class.table >= std::max<std::size_t>(model.tables.size(), 1)) {
            in.fail("table of a class", "does not exist");
        }
        model.classes.push_back(row_class);
    }
    if (count == 1) return;
    if (model.columns < kMinClassColumns) in.fail("columns", "are too few for row classes");
    model.row_class.resize(static_cast<std::size_t>((numbers + model.columns - 1) / model.columns));
    decode_plane(in, model.row_class);
    for (const std::uint8_t c : model.row_class) {
        if (c >= count) in.fail("class of a row", "does not exist");
    }
}

void read_column_classes(ByteReader& in, Model& model, std::uint64_t numbers) {
    model.column_classes = in.u8("number of column classes");
    if (model.column_classes < 2 || model.column_classes > kMaxClasses)
        in.fail("number of column classes", "is " + std::to_string(model.column_classes));
    if (model.tables.empty()) in.fail("column classes", "need tables");
    if (model.columns > numbers || numbers % model.columns != 0) in.fail("column classes", "need whole rows");
    for (const RowClass& row_class : model.classes) {
        if (row_class.table + model.column_classes > model.tables.size())
            in.fail("table of a column class", "does not exist");
    }
    model.column_class.resize(model.columns);
    decode_plane(in, model.column_class);
    for (const std::uint8_t c : model.column_class) {
        if (c >= model.column_classes) in.fail("class of a column", "does not exist");
    }
}

}  // namespace

void write_model(const Model& model, const NumberFormat& format, PlaneEffort effort, ByteWriter& out) {
    if (model.kind == Kind::raw) return;
    out.u8(static_cast<std::uint8_t>(model.kind));
    if (model.kind == Kind::integers) return;
    out.u8(static_cast<std::uint8_t>((model.map.escaped ? kEscaped : 0) | (model.map.sparse ? kSparse : 0) |
                                     (model.tables.empty() ? 0 : kTables) |
                                     (model.column_class.empty() ? 0 : kColumns)));
    out.varint(model.columns);
    if (model.kind == Kind::floats) write_floats(model, out);
    if (model.kind == Kind::palette) {
        out.u8(static_cast<std::uint8_t>(model.palette.size() / format.bytes - 1));
        out.bytes(model.palette);
    }
    if (!model.tables.empty()) rans::write_tables(out, model.tables);
    out.u8(static_cast<std::uint8_t>(model.classes.size()));
    for (const RowClass& row_class : model.classes) {
        out.u8(row_class.raw);
        out.u8(row_class.table);
    }
    if (model.classes.size() > 1) encode_plane(model.row_class, effort, out);
    if (model.column_class.empty()) return;
    out.u8(static_cast<std::uint8_t>(model.column_classes));
    encode_plane(model.column_class, effort, out);
}

Model read_model(ByteView data, const NumberFormat& format, std::uint64_t numbers, unsigned version) {
    Model model;
    if (data.empty()) return model;
    ByteReader in(data);
    const std::uint8_t kind = in.u8("kind of a lossless model");
    if (kind == 0 || kind > static_cast<std::uint8_t>(Kind::integers)) {
        in.fail("kind of a lossless model", "is " + std::to_string(kind) + ", none that is defined");
    }
    model.kind = static_cast<Kind>(kind);
    if (model.kind == Kind::floats && format.exponent_bits == 0)
        in.fail("kind", "floats, of numbers that are none");
    if (model.kind == Kind::bytes && format.bytes != 1) in.fail("kind", "bytes, of numbers of several bytes");
    if (model.kind != Kind::integers) {
        const std::uint8_t flags = in.u8("flags of a lossless model");
        if ((flags & ~known_flags(version)) != 0) in.fail("flags of a lossless model", "are not defined");
        model.map.escaped = (flags & kEscaped) != 0;
        model.map.sparse = (flags & kSparse) != 0;
        if (model.map.sparse && !model.map.escaped)
            in.fail("flags of a lossless model", "contradict each other");
        if (model.map.escaped && model.kind != Kind::floats) in.fail("escapes", "are for floats only");
        model.columns = static_cast<std::size_t>(in.varint("columns", kMaxColumns));
        if (model.columns == 0) in.fail("columns", "are 0");
        if (model.kind == Kind::floats) read_floats(in, format, model);
        if (model.kind == Kind::palette) {
            const std::size_t values = in.u8("size of the palette") + std::size_t{1};
            const ByteView palette = in.bytes(values * format.bytes, "palette");
            model.palette.assign(palette.begin(), palette.end());
        }
        if ((flags & kTables) != 0) model.tables = rans::read_tables(in);
        read_classes(in, model, numbers);
        if ((flags & kColumns) != 0) read_column_classes(in, model, numbers);
    }
    in.expect_end("lossless model");
    return model;
}

}  // namespace nncodec::lossless
