#include "codecs/universal.hpp"

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>

#include "base/bits.hpp"
#include "codecs/universal_points.hpp"
#include "entropy/adaptive_bytes.hpp"
#include "entropy/lzw.hpp"

namespace nncodec::universal {
namespace {

constexpr unsigned kDithered = 1;
constexpr unsigned kMasked = 2;
constexpr unsigned kFlags = kDithered | kMasked;

std::size_t symbols_of(std::size_t survivors, std::size_t dimension) noexcept {
    return (survivors + dimension - 1) / dimension;
}

std::uint32_t fold(std::int32_t value) noexcept {
    const auto bits = static_cast<std::uint32_t>(value);
    return value < 0 ? 2 * ~bits + 1 : 2 * bits;
}

std::int32_t unfold(std::uint32_t value) noexcept {
    return static_cast<std::int32_t>(value & 1 ? ~(value >> 1) : value >> 1);
}

void write_points(ByteWriter& out, lattice::Lattice lattice, std::span<const double> points) {
    std::vector<double> copy(points.begin(), points.end());
    Bytes stream;
    range::BinaryEncoder coder(stream);
    code_points(coder, lattice, {}, copy.size(), Places(copy.size(), false, {}), copy);
    coder.finish();
    out.block(stream);
}

std::vector<double> read_points(ByteReader& in, lattice::Lattice lattice, std::size_t count) {
    std::vector<double> points(count);
    range::BinaryDecoder coder(in.block("table"));
    code_points(coder, lattice, {}, count, Places(count, false, {}), points);
    check(coder.finish(), "table of points");
    return points;
}

std::uint32_t read_distance(ByteReader& in, const char* field) {
    return static_cast<std::uint32_t>(in.varint(field, mixing::kMaxRow));
}

}  // namespace

double Model::scale(std::size_t axis) const noexcept {
    return step * lattice::natural_scale(lattice, axis % lattice::dimension(lattice));
}

Bytes Model::write() const {
    // In one piece: field by field, GCC 12 sees an overflow that is none.
    std::array<std::uint8_t, 10> head{};
    head[0] = static_cast<std::uint8_t>(lattice);
    head[1] = static_cast<std::uint8_t>((dithered ? kDithered : 0) | (masked ? kMasked : 0));
    head[2] = static_cast<std::uint8_t>(coder);
    head[3] = static_cast<std::uint8_t>(table);
    store_le(head.data() + 4, static_cast<std::uint32_t>(std::bit_cast<std::uint64_t>(step) >> 32));
    store_le(head.data() + 8, shrink);
    ByteWriter out;
    out.bytes(head);
    if (dithered) out.le(key);
    out.varint(layout.width);
    out.varint(layout.repeat);
    out.varint(layout.row);
    if (table == Table::none) return out.take();
    out.varint(dimension);
    out.varint(rows());
    out.varint(origin);
    if (table == Table::points) {
        write_points(out, lattice, points);
    } else {
        Bytes stream;
        adaptive::encode_bytes({reinterpret_cast<const std::uint8_t*>(values.data()), 4 * values.size()},
                               stream, 4);
        out.block(stream);
    }
    return out.take();
}

Model Model::read(ByteView data) {
    ByteReader in(data);
    Model model;
    const unsigned lattice = in.u8("lattice");
    if (lattice >= lattice::kLattices) in.fail("lattice", "is " + std::to_string(lattice) + ", above 4");
    model.lattice = static_cast<lattice::Lattice>(lattice);
    const unsigned flags = in.u8("flags");
    if ((flags & ~kFlags) != 0) in.fail("flags", "are " + std::to_string(flags) + ", above 3");
    model.dithered = (flags & kDithered) != 0;
    model.masked = (flags & kMasked) != 0;
    const unsigned coder = in.u8("coder");
    if (coder >= kCoders) in.fail("coder", "is " + std::to_string(coder) + ", above 4");
    model.coder = static_cast<Coder>(coder);
    const unsigned table = in.u8("table");
    if (table > 2) in.fail("table", "is of the unknown kind " + std::to_string(table));
    model.table = static_cast<Table>(table);
    model.step = std::bit_cast<double>(std::uint64_t{in.le<std::uint32_t>("step")} << 32);
    if (!(model.step >= std::numeric_limits<double>::min()) || !(model.step <= 0x1p1000)) {
        in.fail("step", "is not a positive normal number up to 2^1000");
    }
    model.shrink = in.le<std::uint16_t>("shrink");
    if (model.dithered) model.key = in.le<std::uint64_t>("key");
    model.layout.width = read_distance(in, "width");
    model.layout.repeat = read_distance(in, "repeat");
    model.layout.row = read_distance(in, "row");
    if (model.layout.repeat == 0) in.fail("repeat", "is 0");
    const std::size_t of_lattice = lattice::dimension(model.lattice);
    model.dimension = of_lattice;
    if (model.table != Table::none) {
        model.dimension = static_cast<std::size_t>(in.varint("dimension", lattice::kMaxDimension));
        if (model.dimension == 0 || model.dimension % of_lattice != 0) {
            in.fail("dimension", "is no multiple of " + std::to_string(of_lattice));
        }
        const auto rows = static_cast<std::size_t>(in.varint("rows", kMaxTable));
        if (rows == 0 || rows * model.dimension > kMaxTableElements) in.fail("rows", "are none or too many");
        model.origin = static_cast<std::uint32_t>(in.varint("origin", rows - 1));
        if (model.table == Table::points) {
            model.points = read_points(in, model.lattice, rows * model.dimension);
        } else {
            model.values.resize(rows * model.dimension);
            const std::span<std::uint8_t> bytes(reinterpret_cast<std::uint8_t*>(model.values.data()),
                                                4 * model.values.size());
            adaptive::decode_bytes(in.block("table"), bytes, 4);
            for (const float value : model.values) {
                if (!(std::abs(value) <= std::numeric_limits<float>::max()))
                    in.fail("table", "holds no number");
            }
        }
    }
    in.expect_end("model");
    return model;
}

Bytes write_chunk(const Model& model, const Chunk& chunk) {
    if (model.coder != Coder::mixing) {
        Raw raw = universal::raw_chunk(model, chunk);
        lzw::encode(raw.body, raw.head);
        return raw.head;
    }
    ByteWriter out;
    if (model.masked) {
        out.varint(chunk.positions.size());
        Bytes stream;
        range::BinaryEncoder coder(stream);
        mixing::Integers flags(coder, chunk.elements, model.layout);
        std::size_t next = 0;
        for (std::size_t i = 0; i < chunk.elements; ++i) {
            const bool set = next < chunk.positions.size() && chunk.positions[next] == i;
            flags.flag(i, set);
            next += set;
        }
        coder.finish();
        out.block(stream);
    }
    Bytes stream;
    range::BinaryEncoder coder(stream);
    const Places places(chunk.elements, model.masked, chunk.positions);
    if (model.table == Table::none) {
        std::vector<double> points = chunk.points;
        code_points(coder, model.lattice, model.layout, chunk.elements, places, points);
    } else {
        std::vector<std::uint32_t> rows = chunk.rows;
        code_rows(coder, model.layout, chunk.elements, places, model.dimension, model.origin, rows);
    }
    coder.finish();
    out.bytes(stream);
    return out.take();
}

Raw raw_chunk(const Model& model, const Chunk& chunk) {
    ByteWriter head;
    Raw raw;
    if (model.masked) {
        head.varint(chunk.positions.size());
        raw.body.resize((chunk.elements + 7) / 8);
        for (const std::uint32_t i : chunk.positions) {
            raw.body[i / 8] = static_cast<std::uint8_t>(raw.body[i / 8] | 1U << (i % 8));
        }
    }
    std::vector<std::uint32_t> symbols = chunk.rows;
    if (model.table == Table::none) {
        const std::size_t n = lattice::dimension(model.lattice);
        BitWriter cosets(raw.body);
        symbols.clear();
        for (std::size_t v = 0; v < chunk.points.size(); v += n) {
            const lattice::Code code = lattice::code_of(model.lattice, std::span(chunk.points).subspan(v, n));
            cosets.write(code.coset, lattice::coset_bits(model.lattice));
            for (std::size_t i = 0; i < n; ++i) symbols.push_back(fold(code.integer[i]));
        }
        cosets.finish();
    }
    std::uint32_t all = 0;
    for (const std::uint32_t symbol : symbols) all |= symbol;
    const unsigned bytes = all < 1U << 8 ? 1 : all < 1U << 16 ? 2 : 4;
    head.u8(static_cast<std::uint8_t>(bytes));
    for (unsigned plane = 0; plane < bytes; ++plane) {
        for (const std::uint32_t symbol : symbols)
            raw.body.push_back(static_cast<std::uint8_t>(symbol >> (8 * plane)));
    }
    raw.head = head.take();
    return raw;
}

namespace {

Chunk read_mixed(const Model& model, std::size_t elements, ByteReader& in, std::size_t survivors) {
    Chunk chunk;
    chunk.elements = elements;
    if (model.masked) {
        range::BinaryDecoder coder(in.block("mask"));
        mixing::Integers flags(coder, elements, model.layout);
        for (std::size_t i = 0; i < elements && coder.status() == Status::ok; ++i) {
            if (flags.flag(i, false)) chunk.positions.push_back(static_cast<std::uint32_t>(i));
        }
        check(coder.finish(), "mask");
        if (chunk.positions.size() != survivors) in.fail("mask", "has another number of survivors");
    }
    const Places places(elements, model.masked, chunk.positions);
    const std::size_t symbols = symbols_of(survivors, model.dimension);
    range::BinaryDecoder coder(in.rest());
    if (model.table == Table::none) {
        chunk.points.resize(symbols * model.dimension);
        code_points(coder, model.lattice, model.layout, elements, places, chunk.points);
    } else {
        chunk.rows.assign(symbols, model.origin);
        code_rows(coder, model.layout, elements, places, model.dimension, model.origin, chunk.rows);
    }
    check(coder.finish(), "symbols");
    return chunk;
}

Chunk read_packed(const Model& model, std::size_t elements, ByteReader& in, std::size_t survivors,
                  const Unpack& unpack) {
    const std::size_t symbols = symbols_of(survivors, model.dimension);
    const bool direct = model.table == Table::none;
    const std::size_t integers = direct ? symbols * model.dimension : symbols;
    const unsigned bytes = in.u8("bytes of a symbol");
    if (bytes != 1 && bytes != 2 && bytes != 4) in.fail("bytes of a symbol", "are neither 1 nor 2 nor 4");
    const std::size_t mask_bytes = model.masked ? (elements + 7) / 8 : 0;
    const std::size_t coset_bytes = direct ? (symbols * lattice::coset_bits(model.lattice) + 7) / 8 : 0;
    const std::size_t size = mask_bytes + coset_bytes + bytes * integers;
    Bytes body;
    if (model.coder == Coder::lzw) {
        body.resize(size);
        lzw::decode(in.rest(), body);
    } else if (unpack) {
        body = unpack(model.coder, in.rest(), size);
    } else {
        in.fail("coder", std::to_string(static_cast<unsigned>(model.coder)) + " is not at hand");
    }
    if (body.size() != size) in.fail("packed bytes", "are of another number than they should");

    Chunk chunk;
    chunk.elements = elements;
    ByteReader raw(body);
    const ByteView mask = raw.bytes(mask_bytes, "mask");
    for (std::size_t i = 0; i < 8 * mask.size(); ++i) {
        if (((mask[i / 8] >> (i % 8)) & 1) == 0) continue;
        if (i >= elements || chunk.positions.size() == survivors) in.fail("mask", "has too many survivors");
        chunk.positions.push_back(static_cast<std::uint32_t>(i));
    }
    if (model.masked && chunk.positions.size() != survivors) in.fail("mask", "has too few survivors");
    BitReader cosets(raw.bytes(coset_bytes, "cosets"));
    const ByteView planes = raw.rest();
    const auto symbol = [&](std::size_t i) {
        std::uint32_t value = 0;
        for (unsigned plane = 0; plane < bytes; ++plane)
            value |= std::uint32_t{planes[plane * integers + i]} << (8 * plane);
        return value;
    };
    if (!direct) {
        chunk.rows.resize(symbols);
        for (std::size_t i = 0; i < symbols; ++i) chunk.rows[i] = symbol(i);
        return chunk;
    }
    chunk.points.resize(integers);
    for (std::size_t v = 0; v < integers; v += model.dimension) {
        lattice::Axes axes(model.lattice, cosets.read(lattice::coset_bits(model.lattice)));
        for (std::size_t i = 0; i < model.dimension; ++i) {
            const std::int32_t integer = unfold(symbol(v + i));
            chunk.points[v + i] = lattice::coordinate(model.lattice, axes.kind(), integer);
            axes.take(integer);
        }
    }
    check(cosets.finish(), "cosets");
    return chunk;
}

}  // namespace

Chunk read_chunk(const Model& model, std::size_t elements, ByteView payload, const Unpack& unpack) {
    ByteReader in(payload);
    std::size_t survivors = elements;
    if (model.masked) survivors = static_cast<std::size_t>(in.varint("survivors", elements));
    Chunk chunk = model.coder == Coder::mixing ? read_mixed(model, elements, in, survivors)
                                               : read_packed(model, elements, in, survivors, unpack);
    for (const std::uint32_t row : chunk.rows) {
        if (row >= model.rows()) in.fail("symbol", "is beyond the table");
    }
    return chunk;
}

void reconstruct(const Model& model, const Chunk& chunk, std::uint64_t first_vector, DType dtype,
                 std::span<std::uint8_t> out) {
    const std::size_t n = lattice::dimension(model.lattice);
    const std::size_t survivors = chunk.survivors(model);
    const std::size_t padded = symbols_of(survivors, model.dimension) * model.dimension;
    std::vector<double> dither(model.dithered ? padded : 0);
    if (model.dithered) lattice::dither(model.lattice, model.key, first_vector, dither);
    const double keep = 1.0 - static_cast<double>(model.shrink) / 65536;
    std::array<double, lattice::kMaxDimension> scale{};
    for (std::size_t axis = 0; axis < n; ++axis) scale[axis] = model.scale(axis);

    const std::size_t width = number_format(static_cast<std::uint8_t>(dtype)).bytes;
    if (model.masked) std::fill(out.begin(), out.end(), std::uint8_t{0});
    for (std::size_t j = 0; j < survivors; ++j) {
        const double noise = model.dithered ? dither[j] : 0;
        double value = 0;
        if (model.table == Table::values) {
            value = static_cast<double>(
                model.values[chunk.rows[j / model.dimension] * model.dimension + j % model.dimension]);
            if (model.dithered) value = value - scale[j % n] * noise;
        } else {
            const double point =
                model.table == Table::none
                    ? chunk.points[j]
                    : model.points[chunk.rows[j / model.dimension] * model.dimension + j % model.dimension];
            value = scale[j % n] * (point - noise);
        }
        if (model.shrink != 0) value = value * keep;
        const std::uint64_t bits = round_to(dtype, value);
        std::memcpy(out.data() + (model.masked ? chunk.positions[j] : j) * width, &bits, width);
    }
}

}  // namespace nncodec::universal

namespace nncodec {

UniversalDecoder::UniversalDecoder(std::uint8_t dtype, std::size_t elements, std::size_t chunk_elements,
                                   ByteView model, universal::Unpack unpack)
    : dtype_(static_cast<DType>(dtype)), chunk_elements_(chunk_elements), unpack_(std::move(unpack)) {
    (void)elements;
    element_bytes_ = number_format(dtype).bytes;
    if (!is_quantisable(dtype_)) {
        throw DecodeError("element type " + std::to_string(dtype) + " is none of codec 'universal'");
    }
    model_ = universal::Model::read(model);
}

void UniversalDecoder::decode(std::size_t chunk, ByteView payload, std::span<std::uint8_t> out) const {
    const universal::Chunk found =
        universal::read_chunk(model_, out.size() / element_bytes_, payload, unpack_);
    const std::size_t n = lattice::dimension(model_.lattice);
    const std::uint64_t per_chunk = (chunk_elements_ + n - 1) / n;
    universal::reconstruct(model_, found, chunk * per_chunk, dtype_, out);
}

}  // namespace nncodec
