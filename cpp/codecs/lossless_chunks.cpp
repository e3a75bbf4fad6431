#include <algorithm>
#include <array>
#include <cstring>

#include "base/memory.hpp"
#include "base/scratch.hpp"
#include "codecs/byte_plane.hpp"
#include "codecs/code_length.hpp"
#include "codecs/lossless_encoder.hpp"
#include "codecs/lossless_rows.hpp"

namespace nncodec::lossless {
namespace {

constexpr std::size_t kBlock = 4096;
constexpr std::size_t kAllLanes = std::size_t{1} << 17;
constexpr std::size_t kSampled = 2048;  // numbers whose planes are looked at to see whether coding them pays

struct Buffers {
    Scratch symbols;
    Scratch low;
    Scratch nonzero;
    std::array<Scratch, planes::kMaxBytePlanes> coded;
};

bool is_constant(ByteView chunk, std::size_t element) {
    return std::memcmp(chunk.data(), chunk.data() + element, chunk.size() - element) == 0;
}

Bytes raw_chunk(ByteView chunk) {
    Bytes out(1 + chunk.size(), static_cast<std::uint8_t>(ChunkMode::raw));
    std::copy(chunk.begin(), chunk.end(), out.begin() + 1);
    return out;
}

Bytes constant_chunk(ByteView element) {
    Bytes out(1 + element.size(), static_cast<std::uint8_t>(ChunkMode::constant));
    std::copy(element.begin(), element.end(), out.begin() + 1);
    return out;
}

void write_escapes(const NumberFormat& format, std::span<const std::uint8_t> symbols, ByteView chunk,
                   ByteWriter& out) {
    std::vector<std::uint16_t> exponents;
    const std::uint64_t mask = (std::uint64_t{1} << format.exponent_bits) - 1;
    for (std::size_t i = 0; i < symbols.size(); ++i) {
        if (symbols[i] != planes::kEscape) continue;
        std::uint64_t bits = 0;
        std::memcpy(&bits, chunk.data() + i * format.bytes, format.bytes);
        exponents.push_back(static_cast<std::uint16_t>(bits >> format.mantissa_bits & mask));
    }
    out.varint(exponents.size());
    for (const std::uint16_t exponent : exponents) out.le(exponent);
}

// Gathers the numbers of one layout: all of them in order, without the +0 if the map is sparse. Returns a
// view of the chunk itself where that is what was asked for.
ByteView numbers_of(const Model& model, const NumberFormat& format, std::size_t layout, std::size_t first_row,
                    ByteView chunk, std::span<const std::uint8_t> symbols, Scratch& scratch) {
    if (model.raw.size() == 1 && !model.map.sparse) return chunk;
    const std::span<std::uint8_t> gathered = scratch.get(chunk.size());
    std::size_t used = 0;
    const std::size_t size = format.bytes;
    for_each_run(model, first_row, symbols.size(), symbols.size(),
                 [&](std::size_t l, std::size_t first, std::size_t count) {
                     if (l != layout) return;
                     if (!model.map.sparse) {
                         std::memcpy(gathered.data() + used, chunk.data() + first * size, count * size);
                         used += count * size;
                         return;
                     }
                     for (std::size_t i = first; i < first + count; ++i) {
                         if (symbols[i] == planes::kZero) continue;
                         std::memcpy(gathered.data() + used, chunk.data() + i * size, size);
                         used += size;
                     }
                 });
    return gathered.first(used);
}

// For each byte plane, whether it looks as if coding it would save a fortieth or more.
std::array<bool, planes::kMaxBytePlanes> compressible(const NumberFormat& format, const planes::RawBits& raw,
                                                      ByteView numbers) {
    constexpr std::size_t kRun = 64;
    std::array<std::array<std::uint8_t, kRun>, planes::kMaxBytePlanes + 1> bytes;
    std::array<std::array<std::uint32_t, 256>, planes::kMaxBytePlanes> counts{};
    planes::Planes planes;
    planes.low = bytes[planes::kMaxBytePlanes].data();
    for (std::size_t p = 0; p < planes::kMaxBytePlanes; ++p) planes.bytes[p] = bytes[p].data();
    const std::size_t n = numbers.size() / format.bytes;
    const std::size_t runs = std::min(n / kRun, kSampled / kRun);
    std::array<bool, planes::kMaxBytePlanes> result{};
    if (runs == 0) {
        result.fill(true);  // so short that trying costs nothing
        return result;
    }
    for (std::size_t run = 0; run < runs; ++run) {
        const std::size_t first = (n - kRun) / std::max<std::size_t>(runs - 1, 1) * run;
        planes::split(format, raw, numbers.data() + first * format.bytes, kRun, planes);
        for (unsigned p = 0; p < raw.bytes(format); ++p) {
            for (const std::uint8_t byte : bytes[p]) ++counts[p][byte];
        }
    }
    // An estimate from so few bytes is too low by about (values - 1) / 2 ln 2 bits.
    for (unsigned p = 0; p < raw.bytes(format); ++p) {
        const auto used = static_cast<std::uint64_t>(std::count_if(
            counts[p].begin(), counts[p].end(), [](std::uint32_t count) { return count != 0; }));
        const std::uint64_t bits = (code_length<std::uint32_t>(counts[p]) >> kLogBits) + used * 3 / 4;
        result[p] = bits * 40 < runs * kRun * 8 * 39;
    }
    return result;
}

// The payload in the making: [0, used) of a buffer that may be longer, so that no byte is cleared before it
// is written.
struct Output {
    Bytes& bytes;
    std::size_t used = 0;

    // Room for n more bytes of undefined content.
    std::uint8_t* grow(std::size_t n) {
        if (used + n > bytes.size()) bytes.resize(used + n);
        used += n;
        return bytes.data() + (used - n);
    }
    void append(ByteView data) { std::copy(data.begin(), data.end(), grow(data.size())); }
};

// low bits first, then the byte planes from the least significant on. `symbols`: where the numbers' symbols
// go in the same pass, or null.
void write_planes(const NumberFormat& format, const planes::RawBits& raw, ByteView numbers,
                  std::uint8_t* symbols, Buffers& buffers, Output& out) {
    const std::size_t n = numbers.size() / format.bytes;
    const unsigned low_bits = raw.low(format);
    const unsigned byte_planes = raw.bytes(format);
    const std::array<bool, planes::kMaxBytePlanes> coded = compressible(format, raw, numbers);
    planes::Planes planes;
    // Planes that are stored as they are go straight to their place; those before the first coded one have it
    // now.
    unsigned direct = 0;
    while (direct < byte_planes && !coded[direct]) ++direct;
    const std::size_t packed = planes::packed_bits_size(n, low_bits);
    std::uint8_t* const to = out.grow(packed + direct * (1 + n));
    for (unsigned p = 0; p < byte_planes; ++p) {
        if (p < direct) {
            std::uint8_t* const place = to + packed + p * (1 + n);
            *place = 0;  // mode: raw
            planes.bytes[p] = place + 1;
        } else {
            planes.bytes[p] = buffers.coded[p].get(n).data();
        }
    }
    if (low_bits != 0) planes.low = buffers.low.get(n).data();
    if (symbols != nullptr) {
        planes::split_all(format, {}, raw, numbers.data(), n, symbols, planes);
    } else {
        planes::split(format, raw, numbers.data(), n, planes);
    }
    if (low_bits != 0) planes::pack_bits(planes.low, n, low_bits, to);
    ByteWriter tail;
    for (unsigned p = direct; p < byte_planes; ++p)
        encode_plane({planes.bytes[p], n}, PlaneEffort::dense, tail);
    out.append(tail.data());
}

void write_plane_of_symbols(std::span<const std::uint8_t> symbols, Bytes& out) {
    ByteWriter plane;
    encode_plane(symbols, PlaneEffort::dense, plane);
    out.insert(out.end(), plane.data().begin(), plane.data().end());
}

// By the model's tables, unless there are none or they lack a symbol. Returns which it was.
ChunkMode write_symbols(const Model& model, const std::optional<rans::Encoder>& encoder,
                        std::size_t first_row, std::span<const std::uint8_t> symbols, Bytes& out) {
    if (model.tables.empty()) {
        write_plane_of_symbols(symbols, out);
        return ChunkMode::planar;
    }
    rans::Layout layout{symbols.size(), symbols.size(), {}, {}};
    std::vector<std::uint8_t> tables{model.classes[0].table};
    if (!model.row_class.empty() || !model.column_class.empty()) {
        tables.assign(rows_of(model, symbols.size()), tables[0]);
        layout.columns = model.columns;
        layout.column_context = model.column_class;
    }
    if (!model.row_class.empty()) {
        for (std::size_t row = 0; row < tables.size(); ++row)
            tables[row] = model.classes[model.row_class[first_row + row]].table;
    }
    layout.row_context = tables;
    // All lanes at once are twice as fast as half of them, and cost a five-hundredth of a long chunk's
    // stream, less than a thousandth of the chunk. Symbols take about 2.6 bits each in trained networks.
    const unsigned lanes =
        symbols.size() >= kAllLanes ? rans::kMaxLanes : rans::lanes_for(symbols.size() / 3);
    const std::size_t before = out.size();
    try {
        out.push_back(static_cast<std::uint8_t>(std::countr_zero(lanes)));
        encoder->encode(symbols, layout, lanes, out);
        return ChunkMode::coded;
    } catch (const ArgumentError&) {  // a symbol that was not counted: rare enough for an exception
        out.resize(before);
        write_plane_of_symbols(symbols, out);
        return ChunkMode::planar;
    }
}

void write_floats(const Model& model, const NumberFormat& format, std::size_t first_row, ByteView chunk,
                  std::span<std::uint8_t> symbols, Buffers& buffers, Output& out) {
    if (model.raw.size() == 1 && !model.map.escaped) {  // the usual case, in one pass
        write_planes(format, model.raw[0], chunk, symbols.data(), buffers, out);
        return;
    }
    planes::symbols_of(format, model.map, chunk.data(), symbols.size(), symbols.data());
    if (model.map.escaped) {
        ByteWriter escapes;
        write_escapes(format, symbols, chunk, escapes);
        out.append(escapes.data());
    }
    std::vector<std::size_t> counts(model.raw.size());
    for_each_run(model, first_row, symbols.size(), symbols.size(),
                 [&](std::size_t l, std::size_t, std::size_t count) { counts[l] += count; });
    for (std::size_t l = 0; l < counts.size(); ++l) {
        if (counts[l] == 0) continue;
        const ByteView numbers = numbers_of(model, format, l, first_row, chunk, symbols, buffers.nonzero);
        if (model.map.sparse) {
            ByteWriter count;
            count.varint(numbers.size() / format.bytes);
            out.append(count.data());
        }
        write_planes(format, model.raw[l], numbers, nullptr, buffers, out);
    }
}

Bytes encode_integers(const NumberFormat& format, ByteView chunk) {
    const std::size_t n = chunk.size() / format.bytes;
    const std::size_t size = format.bytes;
    std::vector<Bytes> planes(size, Bytes(n));
    std::optional<Bytes> best;
    for (const std::uint8_t delta : {std::uint8_t{0}, std::uint8_t{1}}) {
        std::uint64_t previous = 0;
        for (std::size_t i = 0; i < n; ++i) {
            std::uint64_t value = 0;
            std::memcpy(&value, chunk.data() + i * size, size);
            if (delta != 0) {
                // The difference modulo 2^bits, seen as a signed number, folded so that small ones are small.
                const unsigned unused = 64 - 8 * format.bytes;
                const auto difference = static_cast<std::int64_t>((value - previous) << unused) >> unused;
                previous = value;
                value = static_cast<std::uint64_t>(difference) << 1 ^
                        static_cast<std::uint64_t>(difference >> 63);
            }
            for (std::size_t p = 0; p < size; ++p) planes[p][i] = static_cast<std::uint8_t>(value >> (8 * p));
        }
        ByteWriter out;
        out.u8(static_cast<std::uint8_t>(ChunkMode::coded));
        out.u8(delta);
        for (const Bytes& plane : planes) encode_plane(plane, PlaneEffort::dense, out);
        if (!best || out.size() < best->size()) best = out.take();
    }
    return *best;
}

}  // namespace

Bytes encode_chunk(const Plan& plan, const Model& model, std::size_t chunk) {
    thread_local Buffers buffers;
    const ByteView data = plan.chunk(chunk);
    const std::size_t element = std::size_t{plan.format.bytes} * plan.format.numbers;
    if (is_constant(data, element)) return constant_chunk(data.first(element));
    Bytes out;
    if (model.kind == Kind::raw) return raw_chunk(data);
    if (model.kind == Kind::integers) {
        out = encode_integers(plan.format, data);
    } else {
        const std::size_t first_row = chunk * (plan.chunk_numbers / model.columns);
        const std::span<std::uint8_t> symbols = buffers.symbols.get(data.size() / plan.format.bytes);
        out = take_buffer(data.size() + 64);
        Output to{out};
        to.grow(1);  // the mode
        if (model.kind == Kind::floats) {
            write_floats(model, plan.format, first_row, data, symbols, buffers, to);
        } else {
            make_symbols(plan, data, symbols);
        }
        out.resize(to.used);
        out[0] = static_cast<std::uint8_t>(write_symbols(model, plan.encoder, first_row, symbols, out));
    }
    if (out.size() <= data.size()) return out;
    give_buffer(std::move(out));
    return raw_chunk(data);
}

}  // namespace nncodec::lossless
