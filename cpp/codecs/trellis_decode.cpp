#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <numeric>

#include "base/bits.hpp"
#include "base/scratch.hpp"
#include "codecs/trellis.hpp"
#include "codecs/trellis_symbols.hpp"
#include "codecs/trellis_transform.hpp"
#include "quantize/class_order.hpp"
#include "quantize/float_source.hpp"

namespace nncodec {
namespace {

using trellis_codec::Model;

constexpr int kUnitBits = 6;  // points are in 1/64 step
// A large level's place in the table of points: no point, but its union and symbol.
constexpr int kFirstMark = -32768;
constexpr int kMarks = 512;

std::vector<std::int16_t> points_of(const Model& model) {
    std::vector<std::int16_t> points(256 * model.tables.size());
    for (std::size_t table = 0; table < model.tables.size(); ++table) {
        const auto u = static_cast<unsigned>(table & 1);
        for (unsigned symbol = 1; symbol < 256; ++symbol) {
            const int point = trellis_symbols::is_large(symbol)
                                  ? kFirstMark + static_cast<int>(256 * u + symbol)
                                  : model.point(table / 2, u, trellis_symbols::level_of(symbol, 0)) / 4;
            points[256 * table + symbol] = static_cast<std::int16_t>(point);
        }
    }
    return points;
}

float unit_of(const Model& model) noexcept {
    return model.step / static_cast<float>(1 << kUnitBits);
}

// Calls set(i, point) for each mark among points, with what the raw bits make of it.
template <typename Set>
void read_large(const Model& model, std::span<const std::int16_t> points, std::size_t first, BitReader& bits,
                Set set) {
    for (std::size_t i = 0; i < points.size(); ++i) {
        if (points[i] >= kFirstMark + kMarks) continue;
        const auto mark = static_cast<unsigned>(points[i] - kFirstMark);
        const unsigned symbol = mark & 0xFF;
        const int level = trellis_symbols::level_of(symbol, bits.read(trellis_symbols::raw_bits_of(symbol)));
        set(first + i, trellis::point_of(model.alphabet, mark >> 8, level) * (1 << kUnitBits));
    }
}

void finish(BitReader& bits) {
    if (bits.finish() != Status::ok) throw DecodeError("raw bits of large levels are too few or too many");
}

void to_floats(const Model& model, std::span<const std::int16_t> points, std::span<float> values) noexcept {
    const float unit = unit_of(model);
    for (std::size_t i = 0; i < points.size(); ++i) values[i] = static_cast<float>(points[i]) * unit;
}

}  // namespace

TrellisDecoder::TrellisDecoder(std::uint8_t dtype, std::span<const Shape> shapes, std::size_t chunk_elements,
                               ByteView model, unsigned version)
    : dtype_(static_cast<DType>(dtype)), chunk_elements_(chunk_elements) {
    element_bytes_ = number_format(dtype).bytes;
    if (!is_quantisable(dtype_)) {
        throw DecodeError("element type " + std::to_string(dtype) + " is none of codec 'trellis'");
    }
    model_ = trellis_codec::read_model(model, shapes, chunk_elements, version);
    has_large_ = model_.has_large();
    has_huge_ = model_.has_huge();
    for (std::size_t c = 0; c < model_.classes(); ++c) {
        if (model_.has_symbols(trellis_symbols::is_large, 2 * c, 2))
            large_classes_.push_back(static_cast<std::uint8_t>(c));
    }
    rans_.emplace(model_.tables, points_of(model_), model_.code);
    if (model_.basis && model_.integers) integers_.emplace(*model_.basis);
}

// Points as floats; those that are transformed in integers, transformed.
void TrellisDecoder::to_numbers(std::size_t first, std::span<const std::int16_t> points,
                                std::span<float> values) const {
    if (!integers_) return to_floats(model_, points, values);
    const float unit = model_.step / static_cast<float>(1U << (kUnitBits + klt::kBasisBits));
    trellis_codec::for_each_part(
        model_.tensors, first, points.size(),
        [&](const trellis_codec::TensorSide& tensor, std::size_t, std::size_t at, std::size_t count) {
            const auto from = points.subspan(at, count);
            const auto to = values.subspan(at, count);
            if (model_.has_integers(tensor)) {
                integers_->inverse(from, unit, to);
            } else {
                to_floats(model_, from, to);
            }
        });
}

void TrellisDecoder::restore_layouts(std::size_t first, std::span<float> values) const {
    thread_local Scratch scratch;
    trellis_codec::for_each_part(
        model_.tensors, first, values.size(),
        [&](const trellis_codec::TensorSide& tensor, std::size_t, std::size_t at, std::size_t count) {
            if (tensor.layout.is_stored()) return;
            const auto part = values.subspan(at, count);
            const auto coded = scratch.get_as<float>(count);
            std::copy(part.begin(), part.end(), coded.begin());
            trellis_codec::to_stored(tensor.layout, coded, part);
        });
}

void TrellisDecoder::decode(std::size_t chunk, ByteView payload, std::span<std::uint8_t> out) const {
    const std::size_t n = out.size() / element_bytes_;
    const std::size_t first = chunk * chunk_elements_;
    if (model_.by_columns && n % model_.unit() != 0) throw DecodeError("a chunk ends within a row");
    ByteReader in(payload);
    const ByteView raw = has_large_ ? in.block("raw bits of large levels") : ByteView{};
    const bool classes = model_.classes() > 1;
    thread_local struct {
        Scratch class_of, contexts, coded, points, values, coded_values;
    } scratch;
    const auto class_of = scratch.class_of.get(classes ? n : 0);
    const auto contexts = scratch.contexts.get(classes ? n : 0);
    const auto coded = scratch.coded.get_as<std::int16_t>(n);  // in the order of coding
    class_order::Places places{};
    if (classes) model_.classes_of(first, class_of);
    if (classes && !model_.by_columns) {
        places = class_order::places_of(class_of, model_.classes());
        class_order::sorted(places, contexts);
    }
    if (classes && model_.by_columns) {
        trellis_codec::Transposed(model_, n).to_coding(std::span<const std::uint8_t>(class_of), contexts);
    }
    rans_->decode(in.rest(), contexts, model_.lanes, coded, model_.unit());

    const bool in_place =
        dtype_ == DType::float32 && reinterpret_cast<std::uintptr_t>(out.data()) % alignof(float) == 0;
    const std::span<float> values = in_place ? std::span<float>(reinterpret_cast<float*>(out.data()), n)
                                             : scratch.values.get_as<float>(n);
    const auto to_elements = [&]<typename T>(std::span<const T> from, std::span<T> to) {
        if (model_.by_columns) {
            trellis_codec::Transposed(model_, n).from_coding(from, to);
        } else {
            class_order::restore(class_of, places, from, to);
        }
    };
    const bool in_order = !classes && !model_.by_columns;
    BitReader bits(raw);
    if (has_huge_) {
        const auto coded_values = scratch.coded_values.get_as<float>(n);
        to_floats(model_, coded, coded_values);
        const float unit = unit_of(model_);
        read_large(model_, coded, 0, bits,
                   [&](std::size_t i, int point) { coded_values[i] = static_cast<float>(point) * unit; });
        if (in_order) {
            std::copy(coded_values.begin(), coded_values.end(), values.begin());
        } else {
            to_elements(std::span<const float>(coded_values), values);
        }
    } else {
        const auto set = [&](std::size_t i, int point) { coded[i] = static_cast<std::int16_t>(point); };
        if (model_.by_columns || !classes) {
            if (has_large_) read_large(model_, coded, 0, bits, set);
        } else {
            for (const std::uint8_t c : large_classes_) {
                const std::size_t count = places[c + 1U] - places[c];
                read_large(model_, coded.subspan(places[c], count), places[c], bits, set);
            }
        }
        std::span<std::int16_t> points = coded;  // in the order of the elements
        if (!in_order) {
            points = scratch.points.get_as<std::int16_t>(n);
            to_elements(std::span<const std::int16_t>(coded), points);
        }
        to_numbers(first, points, values);
    }
    finish(bits);
    trellis_codec::for_each_part(
        model_.tensors, first, n,
        [&](const trellis_codec::TensorSide& tensor, std::size_t from, std::size_t at, std::size_t count) {
            tensor.multiply_steps(from, values.subspan(at, count));
        });
    trellis_codec::undo_transforms(model_, first, values);
    if (model_.has_layouts()) restore_layouts(first, values);
    if (in_place) return;
    if (dtype_ == DType::float32) {
        std::memcpy(out.data(), values.data(), out.size());
        return;
    }
    for (std::size_t i = 0; i < n; ++i) {
        const std::uint64_t bits = round_to(dtype_, static_cast<double>(values[i]));
        std::memcpy(out.data() + i * element_bytes_, &bits, element_bytes_);
    }
}

}  // namespace nncodec
