// The encoder's side of codec `universal`: every decision about one part.
#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>
#include <map>
#include <memory>
#include <numeric>
#include <unordered_map>

#include "base/parallel.hpp"
#include "codecs/code_length.hpp"
#include "codecs/universal.hpp"

namespace nncodec {
namespace {

using universal::Table;

constexpr std::size_t kChunkElements = std::size_t{1} << 18;
constexpr std::size_t kExactChunk = std::size_t{1} << 20;  // one chunk learns once
constexpr double kMaxNatural = 0x1p29;
constexpr double kMaskFrom = 0.05;      // share of zeros from which they are told apart
constexpr double kDitherFrom = 2;       // bits per weight from which automatic dither is on
constexpr std::size_t kTableBits = 32;  // of an entry
constexpr double kTableShare = 0.02;    // bits per weight that a table of single levels may take
constexpr std::size_t kRateSample = std::size_t{1} << 18;

// Normalised second moments of the lattices, for the Wiener factor.
double moment(lattice::Lattice lattice) noexcept {
    constexpr std::array<double, lattice::kLattices> kOf{0.083333, 0.080188, 0.076603, 0.071682, 0.065771};
    return kOf[static_cast<std::size_t>(lattice)];
}

double rounded_step(double step, const std::string& name) {
    if (!(step >= std::numeric_limits<double>::min()) || !(step <= 0x1p1000)) {
        throw ArgumentError(name + ": step must be positive and finite, got " + shown(step));
    }
    const std::uint64_t bits =
        (std::bit_cast<std::uint64_t>(step) + 0x80000000U) & ~std::uint64_t{0xFFFFFFFF};
    return std::bit_cast<double>(bits);
}

std::size_t total_of(const std::vector<Shape>& shapes) noexcept {
    std::size_t total = 0;
    for (const Shape& shape : shapes) {
        total += std::accumulate(shape.begin(), shape.end(), std::size_t{1}, std::multiplies<>());
    }
    return total;
}

}  // namespace

struct UniversalPlan::Quantised {
    universal::Chunk chunk;      // positions and points
    std::vector<double> values;  // of the survivors, padded with zeros to whole symbols
    std::vector<double> noise;   // likewise, natural coordinates; empty without dither
};

// Vectors to rows of the table: by their bit patterns, or for `exact` with dither by trial.
class UniversalPlan::Rows {
  public:
    std::uint32_t find(std::span<const double> vector) const {
        const auto found = rows_.find(key_of(vector));
        return found == rows_.end() ? UINT32_MAX : found->second;
    }

    static std::string key_of(std::span<const double> vector) {
        std::vector<double> copy(vector.begin(), vector.end());
        for (double& x : copy) x += 0.0;  // -0 and +0 are the same vector
        return {reinterpret_cast<const char*>(copy.data()), copy.size() * sizeof(double)};
    }

    std::unordered_map<std::string, std::uint32_t> rows_;
    std::vector<std::uint32_t> by_first_;  // rows in the order of their first element
};

UniversalPlan::UniversalPlan(const UniformInput& input, const UniversalOptions& options, std::size_t threads)
    : source_(input.dtype, input.data),
      name_(input.name),
      importance_(input.importance),
      exact_(options.exact) {
    const FloatStatistics statistics = float_statistics(source_, {}, threads);
    if (statistics.nonfinite != 0) {
        throw ArgumentError(name_ + " has " + std::to_string(statistics.nonfinite) +
                            " NaN or infinite elements: a lossy codec cannot take it, codec 'lossless' can");
    }
    if (total_of(input.shapes) != elements()) {
        throw ArgumentError(name_ + ": the shapes do not hold as many elements as the data");
    }
    if (!importance_.empty() && importance_.size() != elements()) {
        throw ArgumentError(name_ + ": importance has the wrong size");
    }
    model_.lattice = options.lattice;
    model_.coder = options.coder;
    model_.step = rounded_step(input.step, name_);
    model_.key = options.key;
    model_.dimension = options.dimension != 0 ? options.dimension : lattice::dimension(options.lattice);
    if (model_.dimension % lattice::dimension(options.lattice) != 0 ||
        model_.dimension > lattice::kMaxDimension) {
        throw ArgumentError("dimension must be a multiple of the lattice's, at most 24");
    }
    if (!(statistics.largest / model_.scale(0) < kMaxNatural)) {
        throw ArgumentError(name_ + ": step " + shown(static_cast<double>(model_.step)) +
                            " is too small for a magnitude of " + shown(statistics.largest) +
                            "; codec 'lossless' stores it exactly");
    }
    choose_layout(input);
    model_.dithered = options.dither == DitherMode::on;
    choose_mask();
    if (options.dither == DitherMode::automatic && rate_without_dither() >= kDitherFrom) {
        model_.dithered = true;
        choose_mask();
    }
    if (options.dimension != 0) make_table(options);
    if (model_.dithered && model_.table != Table::values && !exact_) {
        // Wiener: the source and an error of known variance that does not depend on it.
        double energy = 0;
        double count = 0;
        for (std::size_t c = 0; c < chunks(); ++c) {
            const Quantised q = survivors(c);
            for (const double x : q.values) energy += x * x;
            count += static_cast<double>(q.chunk.survivors(model_));
        }
        const double noise = moment(model_.lattice) * model_.step * model_.step * count;
        if (energy + noise > 0) {
            const double shrink = std::floor(65536 * (noise / (energy + noise)) + 0.5);
            model_.shrink = static_cast<std::uint16_t>(std::min(shrink, 65535.0));
        }
    }
    // The axes of a2 have different scales, which the place in a "kernel" of two tells apart.
    if (model_.lattice == lattice::Lattice::a2 && !model_.masked && model_.table == Table::none) {
        model_.layout.repeat = 2;
    }
    bytes_ = model_.write();
    measure(threads);
}

std::size_t UniversalPlan::chunk_size(std::size_t chunk) const noexcept {
    return std::min(chunk_elements_, elements() - chunk * chunk_elements_);
}

std::uint64_t UniversalPlan::first_vector(std::size_t chunk) const noexcept {
    const std::size_t n = lattice::dimension(model_.lattice);
    return chunk * ((chunk_elements_ + n - 1) / n);
}

void UniversalPlan::choose_layout(const UniformInput& input) {
    std::size_t row = 0;
    if (input.shapes.size() == 1 && input.shapes[0].size() > 1) {
        const Shape& shape = input.shapes[0];
        std::size_t kernel = 1;
        for (std::size_t i = 2; i < shape.size(); ++i) kernel *= shape[i];
        const std::size_t inputs = shape[1] * kernel;
        if (inputs != 0 && inputs <= mixing::kMaxRow / 2) {
            row = inputs;
            model_.layout.row = static_cast<std::uint32_t>(row);
            model_.layout.repeat = static_cast<std::uint32_t>(kernel);
            model_.layout.width = static_cast<std::uint32_t>(shape.size() > 3 ? shape.back() : 1);
        }
    }
    const std::size_t aim = exact_ || elements() <= kExactChunk ? kExactChunk : kChunkElements;
    // Vectors that were trained end where chunks do; otherwise chunks hold whole rows.
    chunk_elements_ = exact_ || row == 0 || row > aim ? aim : aim / row * row;
}

// Zeros are told apart where dither would make noise of them, or vectors would mix them with others.
void UniversalPlan::choose_mask() {
    model_.masked = false;
    if (!model_.dithered && model_.dimension == 1) return;
    std::size_t zeros = 0;
    std::vector<double> x;
    for (std::size_t c = 0; c < chunks(); ++c) {
        x.resize(chunk_size(c));
        source_.load(c * chunk_elements_, x);
        zeros += static_cast<std::size_t>(std::count(x.begin(), x.end(), 0.0));
    }
    const double least = exact_ ? 0 : kMaskFrom * static_cast<double>(elements());
    model_.masked = zeros != 0 && static_cast<double>(zeros) >= least;
}

UniversalPlan::Quantised UniversalPlan::survivors(std::size_t chunk) const {
    Quantised q;
    const std::size_t size = chunk_size(chunk);
    q.chunk.elements = size;
    q.values.resize(size);
    source_.load(chunk * chunk_elements_, q.values);
    if (model_.masked) {
        std::size_t kept = 0;
        for (std::size_t i = 0; i < size; ++i) {
            if (q.values[i] == 0) continue;
            q.chunk.positions.push_back(static_cast<std::uint32_t>(i));
            q.values[kept++] = q.values[i];
        }
        q.values.resize(kept);
    }
    const std::size_t symbols = (q.values.size() + model_.dimension - 1) / model_.dimension;
    q.values.resize(symbols * model_.dimension, 0.0);
    if (model_.dithered) {
        q.noise.resize(q.values.size());
        lattice::dither(model_.lattice, model_.key, first_vector(chunk), q.noise);
    }
    return q;
}

UniversalPlan::Quantised UniversalPlan::quantise(std::size_t chunk) const {
    Quantised q = survivors(chunk);
    const std::size_t n = lattice::dimension(model_.lattice);
    std::vector<double> natural(q.values.size());
    for (std::size_t j = 0; j < natural.size(); ++j) {
        natural[j] = q.values[j] / model_.scale(j % n);
        if (model_.dithered) natural[j] += q.noise[j];
    }
    q.chunk.points.resize(natural.size());
    lattice::nearest(model_.lattice, natural, q.chunk.points);
    return q;
}

// Order-0 entropy of integers by kind, and the bits of cosets, per surviving weight of a sample.
double UniversalPlan::rate_without_dither() const {
    const std::size_t n = lattice::dimension(model_.lattice);
    std::array<std::map<std::int32_t, std::uint64_t>, lattice::kKinds> counts;
    std::map<std::uint32_t, std::uint64_t> cosets;
    std::size_t weights = 0;
    for (std::size_t c = 0; c < chunks() && weights < kRateSample; ++c) {
        const Quantised q = quantise(c);
        const std::size_t end = std::min(q.chunk.points.size(), kRateSample / n * n);
        for (std::size_t v = 0; v < end; v += n) {
            const lattice::Code code =
                lattice::code_of(model_.lattice, std::span(q.chunk.points).subspan(v, n));
            ++cosets[code.coset];
            lattice::Axes axes(model_.lattice, code.coset);
            for (std::size_t i = 0; i < n; ++i) {
                ++counts[axes.kind()][code.integer[i]];
                axes.take(code.integer[i]);
            }
        }
        weights += end;
    }
    if (weights == 0) return 0;
    double bits = 0;
    const auto add = [&](const auto& table) {
        std::vector<std::uint64_t> list;
        for (const auto& entry : table) list.push_back(entry.second);
        bits += static_cast<double>(code_length<std::uint64_t>(list)) / (1U << kLogBits);
    };
    for (const auto& table : counts) add(table);
    add(cosets);
    return bits / static_cast<double>(weights);
}

void UniversalPlan::make_table(const UniversalOptions& options) {
    const std::size_t n = model_.dimension;
    auto rows = std::make_shared<Rows>();
    if (!options.table.empty()) {
        if (options.table.size() % n != 0) throw ArgumentError("table holds no whole vectors");
        model_.table = Table::values;
        model_.values.assign(options.table.begin(), options.table.end());
        if (model_.rows() > universal::kMaxTable) throw ArgumentError("table has too many rows");
        rows->by_first_.resize(model_.rows());
        std::iota(rows->by_first_.begin(), rows->by_first_.end(), 0U);
        std::sort(rows->by_first_.begin(), rows->by_first_.end(), [&](std::uint32_t a, std::uint32_t b) {
            return model_.values[a * n] < model_.values[b * n];
        });
        rows_ = std::move(rows);
        return;
    }
    struct Entry {
        std::vector<double> vector;
        std::uint64_t count = 0;
        std::vector<double> sum;
    };
    std::vector<Entry> entries;
    std::unordered_map<std::string, std::size_t> at;
    const std::size_t lattice_n = lattice::dimension(model_.lattice);
    const bool by_value = exact_ && !model_.dithered;
    for (std::size_t c = 0; c < chunks(); ++c) {
        const Quantised q = by_value ? survivors(c) : quantise(c);
        const std::vector<double>& vectors = by_value ? q.values : q.chunk.points;
        for (std::size_t v = 0; v < vectors.size(); v += n) {
            const std::span<const double> vector = std::span(vectors).subspan(v, n);
            const auto [found, fresh] = at.try_emplace(Rows::key_of(vector), entries.size());
            if (fresh) {
                if (entries.size() == universal::kMaxTable) {
                    if (!exact_) return;  // too fine for a table: coordinates are coded as they are
                    throw ArgumentError(name_ +
                                        " has more than 65536 distinct vectors: it is none that was trained");
                }
                entries.push_back({{vector.begin(), vector.end()}, 0, std::vector<double>(n, 0.0)});
            }
            Entry& entry = entries[found->second];
            ++entry.count;
            for (std::size_t i = 0; i < n; ++i) {
                const double noise = model_.dithered ? q.noise[v + i] : 0;
                entry.sum[i] += q.values[v + i] + model_.scale((v + i) % lattice_n) * noise;
            }
        }
    }
    if (entries.empty()) entries.push_back({std::vector<double>(n, 0.0), 1, std::vector<double>(n, 0.0)});
    std::vector<std::size_t> order(entries.size());
    std::iota(order.begin(), order.end(), std::size_t{0});
    std::sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) {
        if (n > 1 && entries[a].count != entries[b].count) return entries[a].count > entries[b].count;
        return entries[a].vector < entries[b].vector;
    });
    const bool values = by_value || options.centroid;
    // A mean per level is worth having where there are many weights to a level.
    if (!exact_ && n == 1 &&
        static_cast<double>(kTableBits * entries.size()) > kTableShare * static_cast<double>(elements()))
        return;
    model_.table = values ? Table::values : Table::points;
    std::uint64_t most = 0;
    for (std::size_t row = 0; row < order.size(); ++row) {
        const Entry& entry = entries[order[row]];
        rows->rows_[Rows::key_of(entry.vector)] = static_cast<std::uint32_t>(row);
        if (n == 1 && entry.count > most) {  // the most frequent level is coded as 0
            most = entry.count;
            model_.origin = static_cast<std::uint32_t>(row);
        }
        for (std::size_t i = 0; i < n; ++i) {
            if (!values) {
                model_.points.push_back(entry.vector[i]);
            } else if (by_value) {
                const auto narrow = static_cast<float>(entry.vector[i]);
                if (static_cast<double>(narrow) != entry.vector[i]) {
                    throw ArgumentError(name_ + " has values that are no float32 numbers");
                }
                model_.values.push_back(narrow);
            } else {
                model_.values.push_back(static_cast<float>(entry.sum[i] / static_cast<double>(entry.count)));
            }
        }
    }
    rows_ = std::move(rows);
}

universal::Chunk UniversalPlan::finished(std::size_t chunk) const {
    if (chunk >= chunks()) throw ArgumentError("chunk " + std::to_string(chunk) + " does not exist");
    const bool by_value = exact_ && model_.table != Table::none;
    Quantised q = by_value ? survivors(chunk) : quantise(chunk);
    if (model_.table == Table::none) return std::move(q.chunk);
    const std::size_t n = model_.dimension;
    const std::size_t lattice_n = lattice::dimension(model_.lattice);
    const std::vector<double>& vectors = by_value ? q.values : q.chunk.points;
    for (std::size_t v = 0; v < vectors.size(); v += n) {
        if (rows_->by_first_.empty()) {
            q.chunk.rows.push_back(rows_->find(std::span(vectors).subspan(v, n)));
            continue;
        }
        // Table and dither are known: the row that gives these very values.
        const auto decoded = [&](std::uint32_t row, std::size_t i) {
            double value = static_cast<double>(model_.values[row * n + i]);
            if (model_.dithered) value = value - model_.scale((v + i) % lattice_n) * q.noise[v + i];
            return value;
        };
        const double slack = 0x1p-20 * (std::abs(vectors[v]) + model_.step) + 1e-30;
        const double wanted = vectors[v] + (model_.dithered ? model_.scale(v % lattice_n) * q.noise[v] : 0.0);
        auto at = std::lower_bound(
            rows_->by_first_.begin(), rows_->by_first_.end(), wanted - slack,
            [&](std::uint32_t row, double x) { return static_cast<double>(model_.values[row * n]) < x; });
        std::uint32_t chosen = UINT32_MAX;
        const std::size_t real = std::min(n, q.chunk.survivors(model_) - v);
        for (; chosen == UINT32_MAX && at != rows_->by_first_.end(); ++at) {
            if (static_cast<double>(model_.values[*at * n]) > wanted + slack) break;
            bool same = true;
            for (std::size_t i = 0; i < real && same; ++i) {
                same =
                    round_to(source_.dtype(), decoded(*at, i)) == round_to(source_.dtype(), vectors[v + i]);
            }
            if (same) chosen = *at;
        }
        if (chosen == UINT32_MAX) throw ArgumentError(name_ + " has a vector that is not in the table");
        q.chunk.rows.push_back(chosen);
    }
    return std::move(q.chunk);
}

Bytes UniversalPlan::encode_chunk(std::size_t chunk) const {
    return universal::write_chunk(model_, finished(chunk));
}

universal::Raw UniversalPlan::raw_chunk(std::size_t chunk) const {
    return universal::raw_chunk(model_, finished(chunk));
}

void UniversalPlan::measure(std::size_t threads) {
    std::vector<double> error(chunks());
    const std::size_t width = number_format(static_cast<std::uint8_t>(source_.dtype())).bytes;
    parallel_for(chunks(), threads, [&](std::size_t c) {
        const std::size_t size = chunk_size(c);
        Bytes decoded(size * width);
        universal::reconstruct(model_, finished(c), first_vector(c), source_.dtype(), decoded);
        std::vector<double> before(size);
        std::vector<double> after(size);
        source_.load(c * chunk_elements_, before);
        FloatSource(source_.dtype(), decoded).load(0, after);
        for (std::size_t i = 0; i < size; ++i) {
            const double e = before[i] - after[i];
            const double weight =
                importance_.empty() ? 1.0 : static_cast<double>(importance_[c * chunk_elements_ + i]);
            error[c] += weight * e * e;
            if (exact_ && std::bit_cast<std::uint64_t>(before[i]) != std::bit_cast<std::uint64_t>(after[i])) {
                throw ArgumentError(name_ + ": element " + std::to_string(c * chunk_elements_ + i) +
                                    " is no value of this quantiser");
            }
        }
    });
    squared_error_ = std::accumulate(error.begin(), error.end(), 0.0);
}

}  // namespace nncodec
