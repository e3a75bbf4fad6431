#include "codecs/uniform.hpp"

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>
#include <numeric>

#include "base/memory.hpp"
#include "base/parallel.hpp"
#include "entropy/adaptive_bytes.hpp"
#include "quantize/scales_tables.hpp"

namespace nncodec {
namespace {

using scales::Axes;
using scales::ContextMap;
using uniform::Histogram;
using uniform::Offsets;

constexpr std::size_t kChunkElements = std::size_t{1} << 18;
constexpr std::size_t kTryAllAxes = std::size_t{1}
                                    << 18;               // below: rows alone and columns alone are tried too
constexpr double kHighRateLambda = 0.11552453009332421;  // 2 ln 2 / 12: -d(error)/d(bits) in steps squared
constexpr double kOffsetBits = 6;                        // that storing one offset costs
constexpr std::uint32_t kAbsentBits = 18 * 256;          // of a token that did not occur, in 256ths

double rounded_step(double step, const std::string& name) {
    if (!(step >= std::numeric_limits<double>::min()) || !(step <= 0x1p1000)) {
        throw ArgumentError(name + ": step must be positive and finite, got " + shown(step));
    }
    // 20 bits of mantissa are plenty for a step, and half the bytes.
    const std::uint64_t bits =
        (std::bit_cast<std::uint64_t>(step) + 0x80000000U) & ~std::uint64_t{0xFFFFFFFF};
    return std::bit_cast<double>(bits);
}

std::size_t element_count(const Shape& shape) noexcept {
    return std::accumulate(shape.begin(), shape.end(), std::size_t{1}, std::multiplies<>());
}

std::vector<std::uint32_t> token_bits(const rans::Frequencies& table) {
    std::vector<std::uint32_t> bits(scales::kSymbols, kAbsentBits);
    for (std::size_t token = 0; token < table.of.size(); ++token) {
        if (table.of[token] == 0) continue;
        const std::int64_t log2 = scales::fixed_log2(static_cast<double>(table.of[token]));
        bits[token] = static_cast<std::uint32_t>(std::int64_t{table.prob_bits} * 256 - (log2 >> 8));
    }
    return bits;
}

double tables_only_bits(const scales::ClassTables& tables) {
    ByteWriter out;
    scales::write_class_tables(out, tables);
    return 8.0 * static_cast<double>(out.size());
}

std::vector<std::uint64_t> pooled(std::span<const std::uint64_t> counts) {
    std::vector<std::uint64_t> all(scales::kSymbols);
    for (std::size_t i = 0; i < counts.size(); ++i) all[i % scales::kSymbols] += counts[i];
    return all;
}

std::span<std::uint8_t> as_bytes_of(std::span<float> numbers) noexcept {
    return {reinterpret_cast<std::uint8_t*>(numbers.data()), numbers.size_bytes()};
}

Histogram pool(const Histogram& h) {
    Histogram all(1);
    all.count = pooled(h.count);
    for (std::size_t i = 0; i < h.weight.size(); ++i) {
        all.weight[i % uniform::kOffsets] += h.weight[i];
        all.deviation[i % uniform::kOffsets] += h.deviation[i];
    }
    all.square = h.square;
    all.extra = h.extra;
    return all;
}

}  // namespace

struct UniformPlan::Candidate {
    std::vector<scales::View> views;
    std::vector<scales::Scales> scales;
    ContextMap map;
    double bits = 0;
    Histogram histogram{1};
};

UniformPlan::UniformPlan(const UniformInput& input, const UniformOptions& options, std::size_t threads)
    : source_(input.dtype, input.data), original_(source_), importance_(input.importance), options_(options) {
    const FloatStatistics statistics = float_statistics(source_, {}, threads);
    if (statistics.nonfinite != 0) {
        throw ArgumentError(input.name + " has " + std::to_string(statistics.nonfinite) +
                            " NaN or infinite elements: a lossy codec cannot take it, codec 'lossless' can");
    }
    step_ = rounded_step(input.step, input.name);
    if (!(statistics.largest / step_ < static_cast<double>(uniform::kMaxLevel))) {
        throw ArgumentError(input.name + ": step " + shown(step_) + " is too small for a magnitude of " +
                            shown(statistics.largest) + "; codec 'lossless' stores it exactly");
    }
    for (const Shape& shape : input.shapes) {
        sizes_.push_back(element_count(shape));
        shape_views_.push_back(scales::matrix_view(shape));
    }
    if (std::accumulate(sizes_.begin(), sizes_.end(), std::size_t{0}) != elements()) {
        throw ArgumentError(input.name + ": the shapes do not hold as many elements as the data");
    }
    if (!importance_.empty()) {
        if (importance_.size() != elements())
            throw ArgumentError(input.name + ": importance has the wrong size");
        double sum = 0;
        for (const float w : importance_) sum += static_cast<double>(w);
        if (!(sum >= 0) || !(sum <= std::numeric_limits<double>::max())) {
            throw ArgumentError(input.name + ": importance must be finite and at least 0");
        }
        importance_mean_ = sum > 0 ? sum / static_cast<double>(elements()) : 1;
    }

    // Statistics at plain rounding decide transform and classes.
    Candidate best = choose_transform(best_classes(threads), statistics, input.study, threads);
    views_ = std::move(best.views);
    scales_ = std::move(best.scales);
    map_ = std::move(best.map);
    set_chunk_elements(map_);

    // Their costs decide levels, and those the final tables.
    Histogram histogram = std::move(best.histogram);
    choose_tables(histogram);
    choose_offsets(histogram, kHighRateLambda);
    if (options.strength > 0) {
        std::vector<uniform::Thresholds> of_table;
        for (std::size_t table = 0; table < tables_.size(); ++table) {
            of_table.push_back(uniform::rate_aware_thresholds(token_bits(tables_[table]), offsets_[table],
                                                              options.strength * kHighRateLambda));
        }
        for (std::size_t context = 0; context < table_of_.size(); ++context) {
            thresholds_[context] = of_table[table_of_[context]];
        }
        histogram = measure(map_, thresholds_, threads);
        choose_tables(histogram);
        choose_offsets(histogram, kHighRateLambda);
    }
    finish(histogram);
    if (input.dtype == DType::float16 || input.dtype == DType::bfloat16)
        squared_error_ = exact_error(threads);
    if (transform_) {
        transform_->basis.keep_forward();
    }
}

UniformPlan::Candidate UniformPlan::best_classes(std::size_t threads) const {
    Candidate best = candidate(options_.classes ? Axes::both : Axes::none, threads);
    if (options_.classes && elements() < kTryAllAxes) {
        for (const Axes axes : {Axes::rows, Axes::columns}) {
            Candidate other = candidate(axes, threads);
            if (other.bits < best.bits) best = std::move(other);
        }
    }
    return best;
}

// The transform keeps squared errors only if all weigh the same.
UniformPlan::Candidate UniformPlan::choose_transform(Candidate plain, const FloatStatistics& statistics,
                                                     ColumnStudy* study, std::size_t threads) {
    const bool even = importance_.empty() || std::all_of(importance_.begin(), importance_.end(),
                                                         [&](float w) { return w == importance_.front(); });
    if (shape_views_.size() != 1 || !even) return plain;
    transform_ = fit_column_transform(original_, shape_views_[0], step_, statistics, options_.transform,
                                      study, threads);
    if (!transform_) return plain;
    source_ = FloatSource(original_, transform_->basis);
    Candidate other = best_classes(threads);
    other.bits += 8.0 * static_cast<double>(transform_->bytes.size());
    if (options_.transform == TransformChoice::klt || other.bits < plain.bits) return other;
    transform_.reset();
    source_ = original_;
    return plain;
}

void UniformPlan::set_chunk_elements(const ContextMap& map) noexcept {
    const std::size_t row =
        std::lcm(transform_ ? transform_->basis.columns() : map.row_length(), options_.chunk_multiple);
    chunk_elements_ = std::max<std::size_t>(kChunkElements / row, 1) * row;
}

std::size_t UniformPlan::chunk_size(std::size_t chunk) const noexcept {
    return std::min(chunk_elements_, elements() - chunk * chunk_elements_);
}

// The classes that these axes give, or none at all if that is cheaper.
UniformPlan::Candidate UniformPlan::candidate(Axes axes, std::size_t threads) const {
    Candidate c;
    c.views.resize(sizes_.size());
    c.scales.resize(sizes_.size());
    if (options_.classes) {
        c.views = shape_views_;
        std::size_t first = 0;
        for (std::size_t t = 0; t < sizes_.size(); ++t) {
            c.scales[t] = scales::fit(source_, first, c.views[t], axes, threads);
            first += sizes_[t];
        }
        if (sizes_.size() > 1) scales::align(c.scales);
        for (std::size_t t = 0; t < sizes_.size(); ++t) scales::drop_if_constant(c.views[t], c.scales[t]);
        c.map = ContextMap::make(c.views, c.scales, sizes_);
    }
    const std::vector<uniform::Thresholds> rounding(c.map.contexts(), uniform::rounding_thresholds());
    c.histogram = measure(c.map, rounding, threads);
    ByteWriter side;
    for (std::size_t t = 0; t < sizes_.size(); ++t) scales::write_scales(side, c.views[t], c.scales[t]);
    const auto tables = scales::group_contexts(c.histogram.count, scales::kMaxContexts);
    c.bits = 8.0 * static_cast<double>(side.size()) + tables_only_bits(tables) +
             scales::cost_in_bits(c.histogram.count, tables);
    const std::vector<std::uint64_t> all = pooled(c.histogram.count);
    const auto one = scales::group_contexts(all, 1);
    const double flat_bits =
        8.0 * static_cast<double>(sizes_.size()) + tables_only_bits(one) + scales::cost_in_bits(all, one);
    if (c.map.contexts() > 1 && flat_bits <= c.bits) {
        c.views.assign(sizes_.size(), {});
        c.scales.assign(sizes_.size(), {});
        c.map = {};
        c.bits = flat_bits;
        c.histogram = pool(c.histogram);
    }
    return c;
}

Histogram UniformPlan::measure(const ContextMap& map, std::span<const uniform::Thresholds> thresholds,
                               std::size_t threads) const {
    const std::size_t row = map.row_length();
    const std::size_t chunk_elements = std::max<std::size_t>(kChunkElements / row, 1) * row;
    const std::size_t chunks = (elements() + chunk_elements - 1) / chunk_elements;
    const uniform::Rule rule{1 / step_, 1 / importance_mean_, thresholds};
    Histogram all(map.contexts());
    // A histogram of many contexts takes megabytes, so there are no more than keep the threads busy.
    const std::size_t together = 2 * (threads == 0 ? hardware_threads() : threads);
    for (std::size_t first = 0; first < chunks; first += together) {
        std::vector<Histogram> wave(std::min(together, chunks - first), Histogram(map.contexts()));
        parallel_for(wave.size(), threads, [&](std::size_t i) {
            const std::size_t at = (first + i) * chunk_elements;
            const std::size_t n = std::min(chunk_elements, elements() - at);
            const auto importance = importance_.empty() ? importance_ : importance_.subspan(at, n);
            uniform::quantise(source_, at, map.layout(at, n), importance, rule, {}, nullptr, &wave[i]);
        });
        for (const Histogram& histogram : wave)
            all.add(histogram);  // in order: sums of doubles are not commutative
    }
    return all;
}

void UniformPlan::choose_tables(const Histogram& histogram) {
    auto tables = scales::group_contexts(histogram.count, scales::kMaxContexts);
    table_of_ = std::move(tables.table_of);
    tables_ = std::move(tables.tables);
    if (thresholds_.empty()) thresholds_.assign(table_of_.size(), uniform::rounding_thresholds());
}

// An offset is kept if the error that it saves is worth more bits than it costs.
void UniformPlan::choose_offsets(const Histogram& histogram, double lambda) {
    offsets_.assign(tables_.size(), Offsets{});
    if (!options_.centroid) return;
    for (std::size_t table = 0; table < tables_.size(); ++table) {
        for (std::size_t k = 0; k < uniform::kOffsets; ++k) {
            double weight = 0;
            double deviation = 0;
            for (std::size_t context = 0; context < table_of_.size(); ++context) {
                if (table_of_[context] != table) continue;
                weight += histogram.weight[context * uniform::kOffsets + k];
                deviation += histogram.deviation[context * uniform::kOffsets + k];
            }
            if (!(weight > 0)) continue;
            const double offset = std::clamp(std::floor(64 * deviation / weight + 0.5), -63.0, 63.0);
            const double gain = offset / 64 * (2 * deviation - offset / 64 * weight);
            if (gain > kOffsetBits * lambda) offsets_[table][k] = static_cast<std::int8_t>(offset);
        }
    }
}

void UniformPlan::finish(const Histogram& histogram) {
    double square = histogram.square;
    for (std::size_t context = 0; context < table_of_.size(); ++context) {
        for (std::size_t k = 0; k < uniform::kOffsets; ++k) {
            const double offset = static_cast<double>(offsets_[table_of_[context]][k]) / 64;
            const std::size_t at = context * uniform::kOffsets + k;
            square -= offset * (2 * histogram.deviation[at] - offset * histogram.weight[at]);
        }
    }
    squared_error_ = std::max(square, 0.0) * step_ * step_ * importance_mean_;

    has_extra_ = std::any_of(tables_.begin(), tables_.end(),
                             [](const auto& table) { return table.of.size() > uniform::kDirectTokens; });
    const scales::ClassTables tables{table_of_, tables_};
    const double stream_bits = scales::cost_in_bits(histogram.count, tables);
    const auto n_chunks = static_cast<double>(std::max<std::size_t>(chunks(), 1));
    lanes_ = rans::lanes_for(static_cast<std::size_t>(stream_bits / 8 / n_chunks));

    ByteWriter out;
    out.le(static_cast<std::uint32_t>(std::bit_cast<std::uint64_t>(step_) >> 32));
    out.u8(static_cast<std::uint8_t>(std::bit_width(lanes_) - 1));
    if (transform_) {
        out.bytes(transform_->bytes);
    } else {
        write_no_transform(out);
    }
    for (std::size_t t = 0; t < sizes_.size(); ++t) scales::write_scales(out, views_[t], scales_[t]);
    scales::write_class_tables(out, tables);
    Bytes flat;
    for (const Offsets& offsets : offsets_) {
        std::size_t used = offsets.size();
        while (used > 0 && offsets[used - 1] == 0) --used;
        flat.push_back(static_cast<std::uint8_t>(used));
        for (std::size_t k = 0; k < used; ++k) flat.push_back(static_cast<std::uint8_t>(offsets[k]));
    }
    Bytes stream;
    out.varint(flat.size());
    adaptive::encode_bytes(flat, stream);
    out.bytes(stream);
    model_ = out.take();
    // A lane ends with a state of 16 to 32 bits of which 8 or so would have been written anyway.
    bits_ = 8.0 * static_cast<double>(model_.size()) + stream_bits + histogram.extra +
            static_cast<double>(chunks()) * (24.0 * lanes_ + (has_extra_ ? 12.0 : 0.0));
}

// Only while the plan is made: then the basis has its way back.
void UniformPlan::dequantise_chunk(const uniform::Dequantiser& dequantiser, std::size_t chunk,
                                   std::span<std::uint8_t> out) const {
    std::vector<std::uint8_t> tokens;
    const Bytes extra = quantise_chunk(chunk, tokens);
    const rans::Layout layout = map_.layout(chunk * chunk_elements_, tokens.size());
    if (!transform_) return dequantiser.run(tokens, layout, extra, out);
    std::vector<float> coefficients(tokens.size());
    dequantiser.run(tokens, layout, extra, as_bytes_of(coefficients));
    undo_column_transform(transform_->basis, coefficients, original_.dtype(), out);
}

double UniformPlan::exact_error(std::size_t threads) const {
    const DType dtype = original_.dtype();
    const uniform::Dequantiser dequantiser(source_.dtype(), step_, offsets_, table_of_);
    std::vector<double> error(chunks());
    parallel_for(chunks(), threads, [&](std::size_t chunk) {
        const std::size_t at = chunk * chunk_elements_;
        const std::size_t n = chunk_size(chunk);
        Bytes out(n * number_format(static_cast<std::uint8_t>(dtype)).bytes);
        dequantise_chunk(dequantiser, chunk, out);
        const FloatSource decoded(dtype, out);
        std::vector<double> x(n);
        std::vector<double> y(n);
        original_.load(at, x);
        decoded.load(0, y);
        for (std::size_t i = 0; i < n; ++i) {
            const double w = importance_.empty() ? 1.0 : static_cast<double>(importance_[at + i]);
            error[chunk] += w * (x[i] - y[i]) * (x[i] - y[i]);
        }
    });
    return std::accumulate(error.begin(), error.end(), 0.0);
}

Bytes UniformPlan::quantise_chunk(std::size_t chunk, std::vector<std::uint8_t>& tokens) const {
    const std::size_t at = chunk * chunk_elements_;
    const std::size_t n = chunk_size(chunk);
    tokens.resize(n);
    Bytes extra;
    const uniform::Rule rule{1 / step_, 1 / importance_mean_, thresholds_};
    const auto importance = importance_.empty() ? importance_ : importance_.subspan(at, n);
    uniform::quantise(source_, at, map_.layout(at, n), importance, rule, tokens, &extra, nullptr);
    return extra;
}

Bytes UniformPlan::encode_chunk(std::size_t chunk) const {
    if (chunk >= chunks()) throw ArgumentError("chunk " + std::to_string(chunk) + " does not exist");
    std::vector<std::uint8_t> tokens;
    const Bytes extra = quantise_chunk(chunk, tokens);
    ByteWriter out;
    if (has_extra_) out.block(extra);
    Bytes payload = out.take();
    std::call_once(encoder_once_,
                   [this] { encoder_.emplace(scales::ClassTables{table_of_, tables_}.per_context()); });
    encoder_->encode(tokens, map_.layout(chunk * chunk_elements_, tokens.size()), lanes_, payload);
    return payload;
}

UniformDecoder::UniformDecoder(std::uint8_t dtype, std::span<const Shape> shapes, std::size_t chunk_elements,
                               ByteView model)
    : chunk_elements_(chunk_elements), dtype_(static_cast<DType>(dtype)) {
    element_bytes_ = number_format(dtype).bytes;
    if (!is_quantisable(static_cast<DType>(dtype))) {
        throw DecodeError("element type " + std::to_string(dtype) + " is none of codec 'uniform'");
    }
    ByteReader in(model);
    step_ = std::bit_cast<double>(std::uint64_t{in.le<std::uint32_t>("step")} << 32);
    if (!(step_ >= std::numeric_limits<double>::min()) || !(step_ <= std::numeric_limits<double>::max())) {
        in.fail("step", "is not a positive normal number");
    }
    const unsigned lanes_log2 = in.u8("coder");
    if (lanes_log2 > 6) in.fail("coder", "is " + std::to_string(lanes_log2) + ", above 6");
    lanes_ = 1U << lanes_log2;
    std::vector<std::size_t> sizes;
    for (const Shape& shape : shapes) sizes.push_back(element_count(shape));
    basis_ = read_column_transform(
        in, sizes.size(), std::accumulate(sizes.begin(), sizes.end(), std::size_t{0}), chunk_elements);
    std::vector<scales::View> views(shapes.size());
    std::vector<scales::Scales> scales(shapes.size());
    for (std::size_t t = 0; t < shapes.size(); ++t) scales::read_scales(in, sizes[t], views[t], scales[t]);
    map_ = ContextMap::make(views, scales, sizes);
    if (!map_.uniform() && chunk_elements % map_.row_length() != 0) {
        in.fail("chunk_elements", "is " + std::to_string(chunk_elements) + ", no multiple of a row of " +
                                      std::to_string(map_.row_length()));
    }
    const scales::ClassTables tables = scales::read_class_tables(in, map_.contexts());
    n_tables_ = tables.tables.size();
    for (const rans::Frequencies& table : tables.tables) {
        if (table.of.size() > uniform::kTokens) in.fail("table", "has a token above 254");
        has_extra_ = has_extra_ || table.of.size() > uniform::kDirectTokens;
    }
    rans_.emplace(tables.per_context());

    Bytes flat(static_cast<std::size_t>(in.varint("offsets", n_tables_ * (uniform::kOffsets + 1))));
    adaptive::decode_bytes(in.rest(), flat);
    ByteReader offsets_in(flat);
    std::vector<Offsets> offsets(n_tables_, Offsets{});
    for (Offsets& of : offsets) {
        const std::size_t used = offsets_in.u8("number of offsets");
        if (used > of.size()) offsets_in.fail("number of offsets", "is above " + std::to_string(of.size()));
        for (std::size_t k = 0; k < used; ++k) of[k] = static_cast<std::int8_t>(offsets_in.u8("offset"));
    }
    offsets_in.expect_end("offsets");
    dequantiser_.emplace(basis_ ? DType::float32 : dtype_, step_, offsets, tables.table_of);
}

void UniformDecoder::decode(std::size_t chunk, ByteView payload, std::span<std::uint8_t> out) const {
    const std::size_t n = out.size() / element_bytes_;
    const rans::Layout layout = map_.layout(chunk * chunk_elements_, n);
    ByteReader in(payload);
    const ByteView extra = has_extra_ ? in.block("raw bits of large levels") : ByteView{};
    thread_local std::vector<std::uint8_t> tokens;
    tokens.resize(n);
    rans_->decode(in.rest(), layout, lanes_, tokens);
    if (!basis_) return dequantiser_->run(tokens, layout, extra, out);
    thread_local std::vector<float> coefficients;
    coefficients.resize(n);
    dequantiser_->run(tokens, layout, extra, as_bytes_of(coefficients));
    undo_column_transform(*basis_, coefficients, dtype_, out);
}

}  // namespace nncodec
