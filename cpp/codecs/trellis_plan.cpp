#include <algorithm>
#include <bit>
#include <cmath>
#include <numeric>

#include "base/bits.hpp"
#include "base/parallel.hpp"
#include "codecs/trellis.hpp"
#include "codecs/trellis_scales.hpp"
#include "codecs/trellis_study.hpp"
#include "codecs/trellis_symbols.hpp"

namespace nncodec {
namespace {

using trellis_codec::Run;
using trellis_codec::Search;
using trellis_codec::Statistics;
using trellis_codec::Study;

constexpr std::size_t kWave = 8;  // chunks whose statistics are held at a time

// Symbols of levels, and their raw bits in the order of elements.
Bytes to_symbols(std::span<const std::int16_t> levels, std::span<std::uint8_t> symbols) {
    Bytes raw;
    BitWriter bits(raw);
    for (std::size_t i = 0; i < levels.size(); ++i) {
        const auto symbol = trellis_symbols::symbol_of(levels[i]);
        symbols[i] = symbol.symbol;
        if (symbol.raw_bits != 0) bits.write(symbol.raw, symbol.raw_bits);
    }
    bits.finish();
    return raw;
}

}  // namespace

TrellisStudy::TrellisStudy(const TrellisInput& input, const TrellisOptions& options, double step,
                           std::size_t threads)
    : study_(std::make_shared<const Study>(input, options, step, threads)) {}

TrellisTrial TrellisStudy::trial(double step, std::size_t threads) {
    const Search* const from = last_.get();
    const int rounds = from != nullptr ? trellis_codec::kWarmRounds : trellis_codec::kRounds;
    Study::Outcome found = study_->prepare(step, from, rounds, threads);
    last_ = std::make_shared<const Search>(std::move(found.after));
    tried_.insert_or_assign(step, std::make_shared<const Search>(std::move(found.used)));
    return study_->trial_of(*last_, found.statistics);
}

std::shared_ptr<const Search> TrellisStudy::search_at(double step, std::size_t threads) const {
    const auto known = tried_.find(step);
    if (known != tried_.end()) return known->second;
    const int rounds = last_ ? trellis_codec::kWarmRounds : trellis_codec::kRounds;
    return std::make_shared<const Search>(study_->prepare(step, last_.get(), rounds, threads).used);
}

TrellisPlan::TrellisPlan(const TrellisStudy& from, double step, std::size_t threads)
    : shapes_(from.inside().shapes()), chunk_elements_(from.inside().chunk_elements()) {
    const Study& study = from.inside();
    const std::size_t n = study.elements();
    Search search = *from.search_at(step, threads);
    search.model.lanes = study.lanes_for(search.stream_bits);
    symbols_.resize(n);
    raw_.resize(chunks());
    Statistics all;
    std::vector<Statistics> wave(std::min(kWave, chunks()));
    for (std::size_t first = 0; first < chunks(); first += kWave) {
        for (Statistics& one : wave) one.clear();
        parallel_for(std::min(kWave, chunks() - first), threads, [&](std::size_t i) {
            const std::size_t chunk = first + i;
            const std::size_t at = chunk * chunk_elements_;
            const std::size_t count = std::min(chunk_elements_, n - at);
            std::vector<float> values(count);
            std::vector<float> weights(study.has_weights() ? count : 0);
            std::vector<std::uint8_t> sums(count);
            std::vector<std::int16_t> levels(count);
            study.load(at, values);
            if (!weights.empty()) study.load_weights(at, weights);
            search.model.sums_of(at, sums);
            trellis_codec::search_paths(search, values, sums, levels);
            trellis_codec::collect({values, levels, sums, weights, search.model.lanes, 1}, search.model,
                                   wave[i]);
            raw_[chunk] = to_symbols(levels, std::span(symbols_).subspan(at, count));
        });
        for (const Statistics& one : wave) all.add(one);
    }
    model_ = std::move(search.model);
    const double stream = trellis_codec::choose_tables(all, model_, study.options().centroids, true);
    const auto width = static_cast<double>(model_.step);
    squared_error_ = trellis_codec::squared_error(all, model_) * width * width;
    finish(stream);
    if (study.dtype() != DType::float32) squared_error_ = exact_error(study, threads);
}

TrellisPlan::TrellisPlan(const Given& given, std::size_t threads) : chunk_elements_(given.chunk_elements) {
    const std::size_t n =
        std::accumulate(given.shape.begin(), given.shape.end(), std::size_t{1}, std::multiplies<>());
    model_.step = given.step;
    model_.code = trellis::code_of(given.states);
    model_.alphabet = given.alphabet;
    model_.by_columns = given.by_columns;
    model_.lanes = given.lanes;
    trellis_codec::TensorSide& tensor = model_.tensors.emplace_back();
    tensor.elements = n;
    const auto dimensions = static_cast<unsigned>(given.shape.size());
    if (given.levels.size() != n) throw ArgumentError("as many levels as elements, please");
    if (given.row_dimensions > dimensions || dimensions > 15)
        throw ArgumentError("rows cannot have " + std::to_string(given.row_dimensions) + " of " +
                            std::to_string(dimensions) + " dimensions");
    tensor.set_split(given.shape, given.row_dimensions, std::min(given.row_dimensions + 1, dimensions));
    tensor.row_steps = given.row_steps;
    tensor.column_steps = given.column_steps;
    if ((!tensor.row_steps.empty() && tensor.row_steps.size() != tensor.rows) ||
        (!tensor.column_steps.empty() && tensor.column_steps.size() != tensor.row_elements()))
        throw ArgumentError("steps are one for each row, one for each column");
    if (!(given.step >= trellis_codec::kLeastStep && given.step <= trellis_codec::kGreatestStep))
        throw ArgumentError("step must be 2^-80 to 2^80");
    if (given.lanes == 0 || given.lanes > 64 || !std::has_single_bit(given.lanes))
        throw ArgumentError("lanes must be a power of two from 1 to 64");
    const std::size_t unit = std::max<std::size_t>(model_.unit(), 1);
    if (chunk_elements_ == 0 || chunk_elements_ > (std::size_t{1} << 20) || chunk_elements_ % unit != 0)
        throw ArgumentError("chunk_elements must be whole rows, at most 2^20");

    // What the levels mean, in steps: scales and statistics need no more.
    std::vector<float> values(n);
    std::vector<std::int16_t> ordered(n);
    std::vector<float> points(n);
    for (std::size_t at = 0; at < n; at += chunk_elements_) {
        const std::size_t count = std::min(chunk_elements_, n - at);
        const std::size_t piece = trellis::piece_of(count, model_.lanes, unit);
        const auto levels = given.levels.subspan(at, count);
        const auto to = std::span(ordered).subspan(at, count);
        trellis_codec::to_coding_order<std::int16_t>(levels, unit, piece, to);
        for (std::size_t begin = 0; begin < count; begin += piece) {
            unsigned state = 0;
            for (std::size_t i = begin; i < std::min(begin + piece, count); ++i) {
                const int level = to[i];
                if (std::abs(level) > trellis_symbols::kMaxLevel)
                    throw ArgumentError("level " + std::to_string(level) + " is too large");
                points[at + i] = static_cast<float>(
                    trellis::point_of(model_.alphabet, trellis::Code::union_of(state), level));
                state = model_.code.next(state, static_cast<unsigned>(level) & 1U);
            }
        }
        trellis_codec::from_coding_order<float>(std::span<const float>(points).subspan(at, count), unit,
                                                piece, std::span(values).subspan(at, count));
    }
    const bool matrix = given.row_dimensions > 0 && tensor.rows > 1;
    const std::int64_t base = trellis_codec::fit_scales(
        tensor, values, {matrix, tensor.columns > 1, tensor.positions > 1}, threads);
    tensor.offset = trellis_codec::offset_at(base, 1.0);
    symbols_.resize(n);
    raw_.resize(chunks());
    Statistics all;
    const float step = model_.step;
    model_.step = 1;  // values are in steps
    for (std::size_t chunk = 0; chunk < chunks(); ++chunk) {
        const std::size_t at = chunk * chunk_elements_;
        const std::size_t count = std::min(chunk_elements_, n - at);
        const std::size_t piece = trellis::piece_of(count, model_.lanes, unit);
        std::vector<std::uint8_t> sums(count);
        std::vector<std::uint8_t> in_order(count);
        tensor.sums(at, sums);
        trellis_codec::to_coding_order<std::uint8_t>(sums, unit, piece, in_order);
        trellis_codec::collect({std::span(points).subspan(at, count),
                                std::span(ordered).subspan(at, count),
                                in_order,
                                {},
                                model_.lanes,
                                unit},
                               model_, all);
        raw_[chunk] = to_symbols(given.levels.subspan(at, count), std::span(symbols_).subspan(at, count));
    }
    const double stream = trellis_codec::choose_tables(all, model_, false, true);
    model_.step = step;
    finish(stream);
}

void TrellisPlan::finish(double stream_bits) {
    model_bytes_ = model_.write();
    has_large_ = model_.has_large();
    encoder_.emplace(model_.tables, model_.code);
    // A lane ends with a state of 16 to 32 bits of which 8 or so would have been written anyway.
    bits_ = 8.0 * static_cast<double>(model_bytes_.size()) + stream_bits +
            static_cast<double>(chunks()) * (24.0 * model_.lanes + (has_large_ ? 12.0 : 0.0));
}

Bytes TrellisPlan::encode_chunk(std::size_t chunk) const {
    if (chunk >= chunks()) throw ArgumentError("chunk " + std::to_string(chunk) + " does not exist");
    const std::size_t at = chunk * chunk_elements_;
    const std::size_t count = std::min(chunk_elements_, elements() - at);
    const std::size_t unit = model_.unit();
    ByteWriter out;
    if (has_large_) out.block(raw_[chunk]);
    Bytes payload = out.take();
    std::span<const std::uint8_t> symbols = std::span(symbols_).subspan(at, count);
    std::vector<std::uint8_t> classes;
    if (model_.classes() > 1) {
        classes.resize(count);
        model_.classes_of(at, classes);
    }
    std::vector<std::uint8_t> ordered;
    if (model_.by_columns) {
        const std::size_t piece = trellis::piece_of(count, model_.lanes, unit);
        ordered.resize(count);
        trellis_codec::to_coding_order<std::uint8_t>(symbols, unit, piece, ordered);
        symbols = ordered;
        std::vector<std::uint8_t> contexts(classes.size());
        if (!classes.empty()) trellis_codec::to_coding_order<std::uint8_t>(classes, unit, piece, contexts);
        classes = std::move(contexts);
    }
    encoder_->encode(symbols, classes, model_.lanes, payload, unit);
    return payload;
}

double TrellisPlan::exact_error(const trellis_codec::Study& study, std::size_t threads) const {
    std::vector<double> error(chunks());
    const auto dtype = static_cast<std::uint8_t>(study.dtype());
    const TrellisDecoder decoder(dtype, shapes_, chunk_elements_, model_bytes_);
    parallel_for(chunks(), threads, [&](std::size_t chunk) {
        const std::size_t at = chunk * chunk_elements_;
        const std::size_t count = std::min(chunk_elements_, elements() - at);
        Bytes out(count * number_format(dtype).bytes);
        decoder.decode(chunk, encode_chunk(chunk), out);
        const FloatSource decoded(study.dtype(), out);
        std::vector<double> x(count);
        std::vector<double> y(count);
        study.source().load(at, x);
        decoded.load(0, y);
        for (std::size_t i = 0; i < count; ++i) {
            const double w =
                study.importance().empty() ? 1.0 : static_cast<double>(study.importance()[at + i]);
            error[chunk] += w * (x[i] - y[i]) * (x[i] - y[i]);
        }
    });
    return std::accumulate(error.begin(), error.end(), 0.0);
}

}  // namespace nncodec
