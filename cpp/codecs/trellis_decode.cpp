#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <numeric>

#include "base/bits.hpp"
#include "codecs/trellis.hpp"
#include "codecs/trellis_symbols.hpp"
#include "codecs/trellis_transform.hpp"
#include "quantize/float_source.hpp"

namespace nncodec {
namespace {

using trellis_codec::Model;

// A large level's place in the table of points: no number, but its symbol and union.
constexpr std::uint32_t kLargeMark = 0x7FC00000;

std::vector<float> points_of(const Model& model) {
    std::vector<float> points(256 * model.tables.size());
    const float unit = model.step / 256.0F;
    for (std::size_t table = 0; table < model.tables.size(); ++table) {
        const auto u = static_cast<unsigned>(table & 1);
        for (unsigned symbol = 1; symbol < 256; ++symbol) {
            float& point = points[256 * table + symbol];
            if (trellis_symbols::is_large(symbol)) {
                point = std::bit_cast<float>(kLargeMark | u << 8 | symbol);
            } else {
                const int level = trellis_symbols::level_of(symbol, 0);
                point = static_cast<float>(model.point(table / 2, u, level)) * unit;
            }
        }
    }
    return points;
}

void fill_in_large(const Model& model, ByteView raw, std::span<float> values) {
    BitReader bits(raw);
    const float unit = model.step / 256.0F;
    for (float& x : values) {
        if (x == x) continue;
        const std::uint32_t mark = std::bit_cast<std::uint32_t>(x) ^ kLargeMark;
        const unsigned symbol = mark & 0xFF;
        const int level = trellis_symbols::level_of(symbol, bits.read(trellis_symbols::raw_bits_of(symbol)));
        x = static_cast<float>(256 * trellis::point_of(model.alphabet, mark >> 8 & 1, level)) * unit;
    }
    if (bits.finish() != Status::ok) throw DecodeError("raw bits of large levels are too few or too many");
}

}  // namespace

TrellisDecoder::TrellisDecoder(std::uint8_t dtype, std::span<const Shape> shapes, std::size_t chunk_elements,
                               ByteView model)
    : dtype_(static_cast<DType>(dtype)), chunk_elements_(chunk_elements) {
    element_bytes_ = number_format(dtype).bytes;
    if (!is_quantisable(dtype_)) {
        throw DecodeError("element type " + std::to_string(dtype) + " is none of codec 'trellis'");
    }
    model_ = trellis_codec::read_model(model, shapes, chunk_elements);
    has_large_ = model_.has_large();
    rans_.emplace(model_.tables, points_of(model_), model_.code);
}

void TrellisDecoder::decode(std::size_t chunk, ByteView payload, std::span<std::uint8_t> out) const {
    const std::size_t n = out.size() / element_bytes_;
    const std::size_t first = chunk * chunk_elements_;
    if (model_.by_columns && n % model_.unit() != 0) throw DecodeError("a chunk ends within a row");
    ByteReader in(payload);
    const ByteView raw = has_large_ ? in.block("raw bits of large levels") : ByteView{};
    thread_local std::vector<std::uint8_t> classes;
    thread_local std::vector<std::uint8_t> ordered;
    thread_local std::vector<float> buffer;
    thread_local std::vector<float> coded;

    const std::size_t piece = trellis::piece_of(n, model_.lanes, model_.unit());
    std::span<const std::uint8_t> contexts;
    if (model_.classes() > 1) {
        classes.resize(n);
        model_.classes_of(first, classes);
        contexts = classes;
        if (model_.by_columns) {
            ordered.resize(n);
            trellis_codec::to_coding_order<std::uint8_t>(classes, model_.unit(), piece, ordered);
            contexts = ordered;
        }
    }
    const bool in_place =
        dtype_ == DType::float32 && reinterpret_cast<std::uintptr_t>(out.data()) % alignof(float) == 0;
    if (!in_place) buffer.resize(n);
    const std::span<float> values =
        in_place ? std::span<float>(reinterpret_cast<float*>(out.data()), n) : std::span<float>(buffer);
    if (model_.by_columns) {
        coded.resize(n);
        rans_->decode(in.rest(), contexts, model_.lanes, coded, model_.unit());
        trellis_codec::from_coding_order<float>(coded, model_.unit(), piece, values);
    } else {
        rans_->decode(in.rest(), contexts, model_.lanes, values);
    }
    if (has_large_) fill_in_large(model_, raw, values);
    trellis_codec::for_each_part(
        model_.tensors, first, n,
        [&](const trellis_codec::TensorSide& tensor, std::size_t from, std::size_t at, std::size_t count) {
            tensor.multiply_steps(from, values.subspan(at, count));
        });
    trellis_codec::undo_transforms(model_, first, values);
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
