#include "codecs/codebook.hpp"

#include <algorithm>
#include <functional>
#include <numeric>

#include "base/bits.hpp"
#include "entropy/adaptive_bytes.hpp"
#include "quantize/scales_tables.hpp"

namespace nncodec {
namespace {

using scales::Axes;
using scales::ContextMap;

constexpr std::size_t kChunkElements = std::size_t{1} << 18;

std::size_t element_count(const Shape& shape) noexcept {
    return std::accumulate(shape.begin(), shape.end(), std::size_t{1}, std::multiplies<>());
}

std::size_t total(std::span<const std::size_t> sizes) noexcept {
    return std::accumulate(sizes.begin(), sizes.end(), std::size_t{0});
}

std::size_t vectors_in(std::size_t elements, unsigned dimension) noexcept {
    return (elements + dimension - 1) / dimension;
}

}  // namespace

struct CodebookPlan::Candidate {
    std::vector<scales::View> views;
    std::vector<scales::Scales> scales;
    ContextMap map;
    std::vector<std::uint64_t> counts;
    scales::ClassTables tables;
    double bits = 0;
};

CodebookPlan::CodebookPlan(const CodebookInput& input, std::size_t threads)
    : dimension_(input.dimension), shapes_(input.shapes), indices_(input.indices) {
    for (const Shape& shape : shapes_) sizes_.push_back(element_count(shape));
    elements_ = total(sizes_);
    const std::size_t element_bytes = number_format(static_cast<std::uint8_t>(input.dtype)).bytes;
    const std::size_t count_of_entries =
        dimension_ == 0 ? 0 : input.entries.size() / (element_bytes * dimension_);
    if ((dimension_ != 1 && dimension_ != 2 && dimension_ != 4) || count_of_entries < 1 ||
        count_of_entries > codebook::kMaxEntries ||
        input.entries.size() != count_of_entries * element_bytes * dimension_ ||
        input.data.size() != elements_ * element_bytes ||
        indices_.size() != vectors_in(elements_, dimension_)) {
        throw ArgumentError(input.name + ": codebook, indices and data do not fit each other");
    }
    for (const std::uint16_t index : indices_) {
        if (index >= count_of_entries) throw ArgumentError(input.name + ": an index is beyond the codebook");
    }

    const FloatSource source(input.dtype, input.data);
    Candidate best = candidate(Axes::none, source, threads);
    // Scales say nothing about vectors, and nothing of what is not finite.
    if (input.classes && dimension_ == 1 && elements_ > 0 &&
        float_statistics(source, {}, threads).nonfinite == 0) {
        for (const Axes axes : {Axes::both, Axes::rows, Axes::columns}) {
            Candidate other = candidate(axes, source, threads);
            if (other.bits < best.bits) best = std::move(other);
        }
    }

    map_ = std::move(best.map);
    const std::size_t row = map_.uniform() ? dimension_ : map_.row_length();
    chunk_elements_ = std::max<std::size_t>(kChunkElements / row, 1) * row;
    has_extra_ = std::any_of(best.tables.tables.begin(), best.tables.tables.end(),
                             [](const auto& table) { return table.of.size() > codebook::kDirect; });
    const auto n_chunks = static_cast<double>(std::max<std::size_t>(chunks(), 1));
    lanes_ = rans::lanes_for(
        static_cast<std::size_t>(scales::cost_in_bits(best.counts, best.tables) / 8 / n_chunks));

    ByteWriter out;
    out.u8(static_cast<std::uint8_t>(dimension_));
    out.u8(static_cast<std::uint8_t>(std::bit_width(lanes_) - 1));
    out.varint(count_of_entries);
    Bytes entries;
    adaptive::encode_bytes(input.entries, entries, static_cast<unsigned>(element_bytes));
    out.block(entries);
    if (dimension_ == 1) {
        for (std::size_t t = 0; t < sizes_.size(); ++t)
            scales::write_scales(out, best.views[t], best.scales[t]);
    }
    scales::write_class_tables(out, best.tables);
    model_ = out.take();
    encoder_.emplace(best.tables.per_context());
}

CodebookPlan::Candidate CodebookPlan::candidate(Axes axes, const FloatSource& source,
                                                std::size_t threads) const {
    Candidate c;
    c.views.resize(sizes_.size());
    c.scales.resize(sizes_.size());
    if (axes != Axes::none) {
        std::size_t first = 0;
        for (std::size_t t = 0; t < sizes_.size(); ++t) {
            c.views[t] = scales::matrix_view(shapes_[t]);
            c.scales[t] = scales::fit(source, first, c.views[t], axes, threads);
            first += sizes_[t];
        }
        if (sizes_.size() > 1) scales::align(c.scales);
        for (std::size_t t = 0; t < sizes_.size(); ++t) scales::drop_if_constant(c.views[t], c.scales[t]);
    }
    c.map = dimension_ == 1 ? ContextMap::make(c.views, c.scales, sizes_) : ContextMap{};
    c.counts = count(c.map);
    c.tables = scales::group_contexts(c.counts, scales::kMaxContexts);
    ByteWriter out;
    for (std::size_t t = 0; t < sizes_.size(); ++t) scales::write_scales(out, c.views[t], c.scales[t]);
    scales::write_class_tables(out, c.tables);
    c.bits = 8.0 * static_cast<double>(out.size()) + scales::cost_in_bits(c.counts, c.tables);
    return c;
}

std::vector<std::uint64_t> CodebookPlan::count(const ContextMap& map) const {
    std::vector<std::uint64_t> counts(map.contexts() * scales::kSymbols);
    const rans::Layout layout = map.layout(0, indices_.size());
    for (std::size_t i = 0; i < indices_.size(); ++i) {
        std::size_t context = 0;
        if (!layout.row_context.empty()) context += layout.row_context[i / layout.columns];
        if (!layout.column_context.empty()) context += layout.column_context[i % layout.columns];
        ++counts[context * scales::kSymbols + codebook::token_of(indices_[i])];
    }
    // A table needs something to code.
    if (indices_.empty()) counts[0] = 1;
    return counts;
}

Bytes CodebookPlan::encode_chunk(std::size_t chunk) const {
    if (chunk >= chunks()) throw ArgumentError("chunk " + std::to_string(chunk) + " does not exist");
    const std::size_t first = chunk * chunk_elements_;
    const std::size_t elements = std::min(chunk_elements_, elements_ - first);
    const auto indices = indices_.subspan(first / dimension_, vectors_in(elements, dimension_));
    Bytes tokens(indices.size());
    Bytes extra;
    BitWriter bits(extra);
    for (std::size_t i = 0; i < indices.size(); ++i) {
        const unsigned token = codebook::token_of(indices[i]);
        tokens[i] = static_cast<std::uint8_t>(token);
        if (const unsigned width = codebook::extra_bits(token); width != 0)
            bits.write(indices[i] - codebook::base_index(token), width);
    }
    bits.finish();
    ByteWriter out;
    if (has_extra_) out.block(extra);
    Bytes payload = out.take();
    encoder_->encode(tokens, map_.layout(dimension_ == 1 ? first : 0, tokens.size()), lanes_, payload);
    return payload;
}

CodebookDecoder::CodebookDecoder(std::uint8_t dtype, std::span<const Shape> shapes,
                                 std::size_t chunk_elements, ByteView model)
    : chunk_elements_(chunk_elements) {
    if (!is_quantisable(static_cast<DType>(dtype)))
        throw DecodeError("element type " + std::to_string(dtype) + " is none of codec 'codebook'");
    element_bytes_ = number_format(dtype).bytes;
    ByteReader in(model);
    dimension_ = in.u8("dimension");
    if (dimension_ != 1 && dimension_ != 2 && dimension_ != 4) in.fail("dimension", "is none of 1, 2 and 4");
    if (chunk_elements % dimension_ != 0) in.fail("chunk_elements", "is no multiple of the dimension");
    const unsigned lanes_log2 = in.u8("coder");
    if (lanes_log2 > 6) in.fail("coder", "is " + std::to_string(lanes_log2) + ", above 6");
    lanes_ = 1U << lanes_log2;
    const auto count = static_cast<std::size_t>(in.varint("number of entries", codebook::kMaxEntries));
    if (count == 0) in.fail("number of entries", "is 0");
    Bytes entries(count * dimension_ * element_bytes_);
    adaptive::decode_bytes(in.block("entries"), entries, static_cast<unsigned>(element_bytes_));
    table_ = lookup::Table(entries, dimension_ * element_bytes_);

    std::vector<std::size_t> sizes;
    for (const Shape& shape : shapes) sizes.push_back(element_count(shape));
    if (dimension_ == 1) {
        std::vector<scales::View> views(shapes.size());
        std::vector<scales::Scales> scales(shapes.size());
        for (std::size_t t = 0; t < shapes.size(); ++t)
            scales::read_scales(in, sizes[t], views[t], scales[t]);
        map_ = ContextMap::make(views, scales, sizes);
        if (!map_.uniform() && chunk_elements % map_.row_length() != 0)
            in.fail("chunk_elements", "is no multiple of a row");
    }
    const scales::ClassTables tables = scales::read_class_tables(in, map_.contexts());
    in.expect_end("model");
    for (const rans::Frequencies& table : tables.tables) {
        const std::size_t last = table.of.size() - 1;  // its frequency is not 0
        if (last >= codebook::kTokens || codebook::base_index(static_cast<unsigned>(last)) >= count)
            in.fail("table", "has a token beyond the entries");
        has_extra_ = has_extra_ || last >= codebook::kDirect;
    }
    rans_.emplace(tables.per_context());
}

void CodebookDecoder::decode(std::size_t chunk, ByteView payload, std::span<std::uint8_t> out) const {
    const std::size_t n = vectors_in(out.size() / element_bytes_, dimension_);
    ByteReader in(payload);
    const ByteView extra = has_extra_ ? in.block("raw bits of large indices") : ByteView{};
    thread_local std::vector<std::uint8_t> tokens;
    tokens.resize(n);
    const std::size_t first = dimension_ == 1 ? chunk * chunk_elements_ : 0;
    rans_->decode(in.rest(), map_.layout(first, n), lanes_, tokens);
    if (out.size() == n * table_.entry_bytes()) return look_up(tokens, extra, out);
    thread_local Bytes whole;  // the last vector sticks out
    whole.resize(n * table_.entry_bytes());
    look_up(tokens, extra, whole);
    std::copy_n(whole.begin(), out.size(), out.begin());
}

void CodebookDecoder::look_up(std::span<const std::uint8_t> tokens, ByteView extra,
                              std::span<std::uint8_t> out) const {
    if (!has_extra_) return table_.run(tokens, out);
    thread_local std::vector<std::uint16_t> indices;
    indices.resize(tokens.size());
    BitReader bits(extra);
    std::size_t greatest = 0;
    for (std::size_t i = 0; i < tokens.size(); ++i) {
        const unsigned token = tokens[i];
        const unsigned index = codebook::base_index(token) + bits.read(codebook::extra_bits(token));
        indices[i] = static_cast<std::uint16_t>(index);
        greatest = std::max<std::size_t>(greatest, index);
    }
    if (bits.finish() != Status::ok) throw DecodeError("raw bits of large indices have the wrong length");
    if (greatest >= table_.size()) throw DecodeError("an index is beyond the entries");
    table_.run(std::span<const std::uint16_t>(indices), out);
}

}  // namespace nncodec
