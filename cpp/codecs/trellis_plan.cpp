#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <numeric>

#include "base/bits.hpp"
#include "base/parallel.hpp"
#include "codecs/trellis.hpp"
#include "codecs/trellis_scales.hpp"
#include "codecs/trellis_study.hpp"
#include "codecs/trellis_symbols.hpp"
#include "quantize/class_order.hpp"

namespace nncodec {
namespace {

using trellis_codec::Run;
using trellis_codec::Search;
using trellis_codec::Statistics;
using trellis_codec::Study;

constexpr std::size_t kWave = 8;  // chunks whose statistics are held at a time

template <typename T>
std::vector<T> in_order(const std::vector<T>& from, std::span<const std::uint32_t> order) {
    std::vector<T> to(from.size());
    for (std::size_t i = 0; i < to.size(); ++i) to[i] = from[order[i]];
    return to;
}

// Symbols of levels, and their raw bits, in the order of coding.
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

// Where to begin: at the tables of the nearest step that was searched for them. So trials of steps close to
// each other begin alike, and their outcomes differ as their steps do.
TrellisStudy::Start TrellisStudy::start_of(double step) const {
    constexpr double kNextTo = 1.03;  // prices of levels are about the same
    constexpr double kNear = 1.1;
    constexpr double kFar = 2.5;
    Start start{nullptr, trellis_codec::kRounds, true};
    double least = kFar;
    for (const auto& [at, search] : anchors_) {
        const double ratio = at < step ? step / at : at / step;
        if (!(ratio < least)) continue;
        least = ratio;
        const int rounds = ratio < kNextTo ? 1
                           : ratio < kNear ? trellis_codec::kWarmRounds
                                           : trellis_codec::kRounds - 1;
        start = {search.get(), rounds, !(ratio < kNear)};
    }
    return start;
}

TrellisTrial TrellisStudy::trial(double step, std::size_t threads) {
    const Start start = start_of(step);
    Study::Outcome found = study_->prepare(step, start.from, start.rounds, threads);
    const TrellisTrial made = study_->trial_of(found);
    if (start.is_anchor) anchors_.emplace_back(step, std::make_shared<const Search>(std::move(found.after)));
    if (last_ != nullptr) last_->path.reset();
    last_ = std::make_shared<Search>(std::move(found.used));
    tried_.insert_or_assign(step, last_);
    return made;
}

std::shared_ptr<const Search> TrellisStudy::search_at(double step, std::size_t threads) const {
    const auto known = tried_.find(step);
    if (known != tried_.end()) return known->second;
    const Start start = start_of(step);
    return std::make_shared<const Search>(study_->prepare(step, start.from, start.rounds, threads).used);
}

TrellisPlan::TrellisPlan(const TrellisStudy& from, double step, std::size_t threads)
    : shapes_(from.inside().shapes()), chunk_elements_(from.inside().chunk_elements()) {
    const Study& study = from.inside();
    const std::size_t n = study.elements();
    Search search = *from.search_at(step, threads);
    if (search.path != nullptr && n > 0) {  // all is known
        const trellis_codec::Path& path = *search.path;
        symbols_.resize(n);
        raw_.push_back(to_symbols(path.levels, symbols_));
        model_ = path.made;
        complete(study, path.bits, path.squared_error, threads);
        return;
    }
    if (!study.is_whole()) search.model.lanes = study.lanes_for(search.stream_bits);
    const auto class_of = search.model.class_of_sum();
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
            std::vector<std::uint8_t> sums(count);
            search.model.sums_of(at, sums);
            std::vector<float> values(count);
            std::vector<float> weights(study.has_weights() ? count : 0);
            study.load(at, values);
            if (!weights.empty()) study.load_weights(at, weights);
            if (search.model.classes() > 1) {
                std::vector<std::uint8_t> classes(count);
                std::transform(sums.begin(), sums.end(), classes.begin(),
                               [&](std::uint8_t sum) { return class_of[sum]; });
                const std::vector<std::uint32_t> order = class_order::order_of(classes);
                values = in_order(values, order);
                weights = in_order(weights, order);
                sums = in_order(sums, order);
            }
            std::vector<std::int16_t> levels(count);
            std::vector<std::uint8_t> unions(count);
            trellis_codec::search_paths(search, values, sums, levels, unions);
            trellis_codec::collect({values, levels, unions, sums, weights}, search.model, wave[i]);
            raw_[chunk] = to_symbols(levels, std::span(symbols_).subspan(at, count));
        });
        for (const Statistics& one : wave) all.add(one);
    }
    model_ = std::move(search.model);
    const double stream = trellis_codec::choose_tables(all, model_, study.options().centroids, true);
    complete(study, stream, trellis_codec::squared_error(all, model_), threads);
}

// `error` is in steps.
void TrellisPlan::complete(const Study& study, double stream_bits, double error, std::size_t threads) {
    const auto width = static_cast<double>(model_.step);
    squared_error_ = error * width * width;
    model_.integers = !model_.has_huge() && study.fits_integers(width);
    finish(stream_bits);
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
    std::vector<std::uint8_t> unions(n);
    for (std::size_t at = 0; at < n; at += chunk_elements_) {
        const std::size_t count = std::min(chunk_elements_, n - at);
        const auto levels = given.levels.subspan(at, count);
        for (const int level : levels) {
            if (std::abs(level) > trellis_symbols::kMaxLevel)
                throw ArgumentError("level " + std::to_string(level) + " is too large");
        }
        std::array<unsigned, rans::kMaxLanes> states{};
        const auto visit = [&](std::size_t i, std::size_t lane) {
            const unsigned u = trellis::Code::union_of(states[lane]);
            unions[at + i] = static_cast<std::uint8_t>(u);
            values[at + i] = static_cast<float>(trellis::point_of(model_.alphabet, u, levels[i]));
            states[lane] = model_.code.next(states[lane], static_cast<unsigned>(levels[i]) & 1U);
        };
        if (given.by_columns) {
            trellis_codec::Transposed(model_, count).for_each(visit);
        } else {
            for (std::size_t i = 0; i < count; ++i) visit(i, i % model_.lanes);
        }
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
        std::vector<std::uint8_t> sums(count);
        tensor.sums(at, sums);
        trellis_codec::collect({std::span(values).subspan(at, count),
                                given.levels.subspan(at, count),
                                std::span(unions).subspan(at, count),
                                sums,
                                {}},
                               model_, all);
        std::vector<std::int16_t> ordered(given.levels.begin() + static_cast<std::ptrdiff_t>(at),
                                          given.levels.begin() + static_cast<std::ptrdiff_t>(at + count));
        if (given.by_columns)
            trellis_codec::Transposed(model_, count)
                .to_coding(given.levels.subspan(at, count), std::span(ordered));
        raw_[chunk] = to_symbols(ordered, std::span(symbols_).subspan(at, count));
    }
    // In order 0 classes would change the order, and with it what the levels mean: there is but one.
    const double stream = trellis_codec::choose_tables(all, model_, false, !given.by_columns);
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
    ByteWriter out;
    if (has_large_) out.block(raw_[chunk]);
    Bytes payload = out.take();
    const auto symbols = std::span(symbols_).subspan(at, count);
    std::vector<std::uint8_t> contexts;
    if (model_.classes() > 1) {
        std::vector<std::uint8_t> classes(count);
        model_.classes_of(at, classes);
        contexts.resize(count);
        if (model_.by_columns) {
            trellis_codec::Transposed(model_, count)
                .to_coding(std::span<const std::uint8_t>(classes), std::span(contexts));
        } else {
            class_order::sorted(class_order::places_of(classes, model_.classes()), contexts);
        }
    }
    encoder_->encode(symbols, contexts, model_.lanes, payload, model_.unit());
    return payload;
}

double TrellisPlan::exact_error(const trellis_codec::Study& study, std::size_t threads) const {
    std::vector<double> error(chunks());
    const auto dtype = static_cast<std::uint8_t>(study.dtype());
    const TrellisDecoder decoder(dtype, shapes_, chunk_elements_, model_bytes_, version());
    parallel_for(chunks(), threads, [&](std::size_t chunk) {
        const std::size_t at = chunk * chunk_elements_;
        const std::size_t count = std::min(chunk_elements_, elements() - at);
        Bytes out(count * number_format(dtype).bytes);
        decoder.decode(chunk, encode_chunk(chunk), out);
        const FloatSource decoded(study.dtype(), out);
        const auto importance = study.stored_importance();
        std::vector<double> x(count);
        std::vector<double> y(count);
        study.stored_source().load(at, x);
        decoded.load(0, y);
        for (std::size_t i = 0; i < count; ++i) {
            const double w = importance.empty() ? 1.0 : static_cast<double>(importance[at + i]);
            error[chunk] += w * (x[i] - y[i]) * (x[i] - y[i]);
        }
    });
    return std::accumulate(error.begin(), error.end(), 0.0);
}

}  // namespace nncodec
