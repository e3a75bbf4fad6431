#include "codecs/weightless.hpp"

#include <algorithm>
#include <cmath>

namespace nncodec {
namespace {

using weightless::Hit;
using weightless::Key;
using weightless::Model;
using weightless::Structure;

constexpr std::size_t kChunkElements = std::size_t{1} << 20;

std::size_t checked_size(std::uint8_t dtype) {
    const std::size_t bytes = number_format(dtype).bytes;
    if (!is_quantisable(static_cast<DType>(dtype)))
        throw DecodeError("element type " + std::to_string(dtype) + " is none of codec 'weightless'");
    return bytes;
}

// Least number of leading bytes of each element that are not 0 in some element.
std::size_t kept_bytes(ByteView values, std::size_t size) noexcept {
    std::size_t kept = 1;
    for (std::size_t i = 0; i < values.size(); ++i) {
        if (values[i] != 0) kept = std::max(kept, size - i % size);
    }
    return kept;
}

Bytes write_model(const Model& model, ByteView values, std::size_t size) {
    ByteWriter out;
    out.u8(static_cast<std::uint8_t>(static_cast<unsigned>(model.structure) | (model.exact ? 2U : 0U) |
                                     (model.packed ? 4U : 0U)));
    out.u8(static_cast<std::uint8_t>(model.bits));
    if (model.structure == Structure::ribbon) out.u8(static_cast<std::uint8_t>(model.words));
    out.varint(model.values);
    const std::size_t kept = kept_bytes(values, size);
    out.u8(static_cast<std::uint8_t>(kept));
    for (std::size_t at = size - kept; at < values.size(); at += size) out.bytes(values.subspan(at, kept));
    return out.take();
}

}  // namespace

WeightlessPlan::WeightlessPlan(std::uint8_t dtype, ByteView data, ByteView values, const Model& model,
                               std::uint64_t seed, std::string name)
    : source_(static_cast<DType>(dtype), data),
      model_(model),
      seed_(seed),
      name_(std::move(name)),
      chunk_elements_(kChunkElements) {
    const FloatSource levels(static_cast<DType>(dtype), values);
    if (levels.size() == 0 || levels.size() > weightless::kMaxValues)
        throw ArgumentError("there must be 1 to " + std::to_string(weightless::kMaxValues) + " values");
    values_.resize(levels.size());
    levels.load(0, values_);
    for (std::size_t i = 0; i < values_.size(); ++i) {
        if (!std::isfinite(values_[i]) || values_[i] == 0 || (i > 0 && values_[i] <= values_[i - 1]))
            throw ArgumentError("values must be finite, not zero, and ascending");
    }
    model_.values = static_cast<std::uint32_t>(values_.size());
    if (model_.bits < 1 || model_.bits > 16 || (std::size_t{1} << model_.bits) < values_.size())
        throw ArgumentError("cells of " + std::to_string(model_.bits) + " bits cannot hold " +
                            std::to_string(values_.size()) + " values");
    bytes_ = write_model(model_, values, number_format(dtype).bytes);
}

Bytes WeightlessPlan::encode_chunk(std::size_t chunk) const {
    if (chunk >= chunks()) throw ArgumentError("chunk " + std::to_string(chunk) + " does not exist");
    const std::size_t first = chunk * chunk_elements_;
    const std::size_t n = std::min(chunk_elements_, elements() - first);
    std::vector<Key> keys;
    std::vector<std::uint16_t> codes;
    constexpr std::size_t kAtOnce = 4096;
    std::vector<double> numbers;
    for (std::size_t at = 0; at < n; at += kAtOnce) {
        numbers.resize(std::min(kAtOnce, n - at));
        source_.load(first + at, numbers);
        for (std::size_t i = 0; i < numbers.size(); ++i) {
            const double x = numbers[i];
            if (x == 0) continue;
            if (!std::isfinite(x))
                throw ArgumentError(name_ +
                                    " has NaN or infinite elements: codec 'weightless' cannot take it, "
                                    "codec 'lossless' can");
            auto above = std::lower_bound(values_.begin(), values_.end(), x);
            if (above == values_.end() || (above != values_.begin() && x - above[-1] <= *above - x)) --above;
            keys.push_back(static_cast<Key>(at + i));
            codes.push_back(static_cast<std::uint16_t>(above - values_.begin()));
        }
    }
    return weightless::encode_chunk(model_, keys, codes, n, seed_);
}

WeightlessDecoder::WeightlessDecoder(std::uint8_t dtype, std::size_t elements, std::size_t chunk_elements,
                                     ByteView model)
    : element_bytes_(checked_size(dtype)), elements_(elements), chunk_elements_(chunk_elements) {
    ByteReader in(model);
    const unsigned kind = in.u8("kind");
    if (kind > 7) in.fail("kind", "is " + std::to_string(kind) + ", above 7");
    model_.structure = static_cast<Structure>(kind & 1U);
    model_.exact = (kind & 2U) != 0;
    model_.packed = (kind & 4U) != 0;
    if (model_.packed && model_.structure == Structure::ribbon) in.fail("kind", "is a packed ribbon");
    model_.bits = in.u8("bits of a cell");
    if (model_.bits < 1 || model_.bits > 16) in.fail("bits of a cell", "must be 1 to 16");
    if (model_.structure == Structure::ribbon) {
        model_.words = in.u8("words of a window");
        if (model_.words < 1 || model_.words > retrieval::kMaxWords)
            in.fail("words of a window", "must be 1 to " + std::to_string(retrieval::kMaxWords));
    }
    const std::size_t most = std::min(weightless::kMaxValues, std::size_t{1} << model_.bits);
    model_.values = static_cast<std::uint32_t>(in.varint("number of values", most));
    if (model_.values == 0) in.fail("number of values", "is 0");
    const std::size_t kept = in.u8("bytes of a value");
    if (kept < 1 || kept > element_bytes_)
        in.fail("bytes of a value", "must be 1 to " + std::to_string(element_bytes_));
    values_.assign((std::size_t{model_.values} + 1) * element_bytes_, 0);
    for (std::size_t v = 0; v < model_.values; ++v) {
        const ByteView bytes = in.bytes(kept, "value");
        std::copy(bytes.begin(), bytes.end(),
                  values_.begin() + static_cast<std::ptrdiff_t>((v + 1) * element_bytes_ - kept));
    }
    in.expect_end("model");
    if (chunk_elements_ > kChunkElements) throw DecodeError("chunk_elements is above 2^20");
}

std::size_t WeightlessDecoder::chunk_size(std::size_t chunk) const {
    if (chunk_elements_ == 0 || chunk > elements_ / chunk_elements_)
        throw DecodeError("there is no such chunk");
    return std::min(chunk_elements_, elements_ - chunk * chunk_elements_);
}

void WeightlessDecoder::decode(std::size_t /*chunk*/, ByteView payload, std::span<std::uint8_t> out) const {
    thread_local std::vector<Hit> found;
    found.clear();
    weightless::Chunk(model_, payload, out.size() / element_bytes_).hits(found);
    std::fill(out.begin(), out.end(), std::uint8_t{0});
    for (const Hit& hit : found)
        std::memcpy(out.data() + hit.position * element_bytes_, values_.data() + hit.code * element_bytes_,
                    element_bytes_);
}

void WeightlessDecoder::look_up(std::size_t chunk, ByteView payload, std::span<const Key> positions,
                                std::span<std::uint8_t> out) const {
    const std::size_t n = chunk_size(chunk);
    for (const Key position : positions) {
        if (position >= n)
            throw ArgumentError("position " + std::to_string(position) + " is not in the chunk");
    }
    if (out.size() != positions.size() * element_bytes_)
        throw ArgumentError("as many elements as positions, please");
    std::vector<std::uint16_t> codes(positions.size());
    weightless::Chunk(model_, payload, n).look_up(positions, codes);
    for (std::size_t i = 0; i < codes.size(); ++i)
        std::memcpy(out.data() + i * element_bytes_, values_.data() + codes[i] * element_bytes_,
                    element_bytes_);
}

}  // namespace nncodec
