#include "codecs/trellis_study.hpp"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstring>
#include <numeric>

#include "codecs/trellis_scales.hpp"
#include "codecs/trellis_transform.hpp"
#include "quantize/scales.hpp"

namespace nncodec::trellis_codec {

Study::Study(const TrellisInput& input, const TrellisOptions& options, double step, std::size_t threads)
    : stored_source_(input.dtype, input.data),
      stored_importance_(input.importance),
      shapes_(input.shapes),
      source_(stored_source_),
      importance_(input.importance),
      coded_shapes_(input.shapes),
      options_(options),
      name_(input.name) {
    check(input, threads);
    skeleton_.code = trellis::code_of(options.states);
    if (options.layouts) choose_layouts(step, threads);
    if (skeleton_.has_layouts()) take_layouts();
    choose_steps();
    choose_transforms(step, threads);
    take_sample();
    if (!is_whole()) judge_shape(step);
}

void Study::check(const TrellisInput& input, std::size_t threads) {
    const FloatStatistics statistics = float_statistics(source_, importance_, threads);
    energy_ = statistics.energy;
    if (statistics.nonfinite != 0) {
        throw ArgumentError(name_ + " has " + std::to_string(statistics.nonfinite) +
                            " NaN or infinite elements: a lossy codec cannot take it, codec 'lossless' can");
    }
    if (!(statistics.largest < 0x1p90)) {
        throw ArgumentError(name_ + " has a magnitude of " + shown(statistics.largest) +
                            ": codec 'trellis' takes them up to 2^90, codec 'lossless' all");
    }
    std::size_t total = 0;
    for (const Shape& shape : input.shapes) {
        TensorSide& tensor = skeleton_.tensors.emplace_back();
        tensor.elements = std::accumulate(shape.begin(), shape.end(), std::size_t{1}, std::multiplies<>());
        total += tensor.elements;
    }
    if (total != elements())
        throw ArgumentError(name_ + ": the shapes do not hold as many elements as the data");
    if (importance_.empty()) return;
    if (importance_.size() != elements()) throw ArgumentError(name_ + ": importance has the wrong size");
    double sum = 0;
    for (const float w : importance_) sum += static_cast<double>(w);
    if (!(sum >= 0) || !(sum <= std::numeric_limits<double>::max()))
        throw ArgumentError(name_ + ": importance must be finite and at least 0");
    importance_mean_ = sum > 0 ? sum / static_cast<double>(elements()) : 1;
}

void Study::load(std::size_t first, std::span<float> out) const {
    load_floats(source_, first, out);
    apply_transforms(skeleton_, first, out);
    if (!has_steps_) return;
    for_each_part(skeleton_.tensors, first, out.size(),
                  [&](const TensorSide& tensor, std::size_t from, std::size_t at, std::size_t count) {
                      tensor.divide_steps(from, out.subspan(at, count));
                  });
}

void Study::load_weights(std::size_t first, std::span<float> out) const {
    std::fill(out.begin(), out.end(), 1.0F);
    for_each_part(skeleton_.tensors, first, out.size(),
                  [&](const TensorSide& tensor, std::size_t from, std::size_t at, std::size_t count) {
                      tensor.multiply_steps(from, out.subspan(at, count));
                  });
    for (std::size_t i = 0; i < out.size(); ++i)
        out[i] = out[i] * out[i] * (importance_.empty() ? 1.0F : importance_[first + i]);
}

void Study::take_sample() {
    const std::size_t n = elements();
    if (skeleton_.tensors.size() > 1) {
        chunk_elements_ = std::max<std::size_t>(n, 1);
    } else {
        const TensorSide& tensor = skeleton_.tensors[0];
        std::size_t unit = tensor.row_elements();
        if (unit > kChunkElements) unit = tensor.kernel() <= kChunkElements ? tensor.kernel() : 1;
        unit = std::max<std::size_t>(unit, 1);
        const std::size_t aim = n < kLongChunksFrom ? kChunkElements : kLongChunkElements;
        chunk_elements_ = std::max<std::size_t>(aim / unit, 1) * unit;
        if (tensor.layout.kind == LayoutKind::kernels_first) chunk_elements_ = n;
    }
    const bool whole = skeleton_.tensors.size() > 1 || n <= std::max(options_.sample, std::size_t{1} << 15);
    if (whole) {
        if (n > 0) parts_.push_back({0, n});
    } else {
        const TensorSide& tensor = skeleton_.tensors[0];
        std::size_t unit = std::max<std::size_t>(tensor.row_elements(), 1);
        const std::size_t size = std::max(options_.sample, std::size_t{1} << 15);
        if (unit > size / 16) unit = tensor.kernel();
        const std::size_t block = std::max<std::size_t>(2048 / unit, 1) * unit;
        const std::size_t count = std::max<std::size_t>(size / block, 1);
        const std::size_t stride = std::max(n / count / unit * unit, block);
        for (std::size_t i = 0; i < count && i * stride + block <= n; ++i)
            parts_.push_back({i * stride, block});
    }
    for (const Part& part : parts_) {
        const std::size_t at = sample_.size();
        sample_.resize(at + part.count);
        load(part.first, std::span(sample_).subspan(at));
        if (!has_weights()) continue;
        sample_weights_.resize(sample_.size());
        load_weights(part.first, std::span(sample_weights_).subspan(at));
    }
}

void Study::judge_shape(double step) {
    // Mean over root mean square: 0.798 for a Gaussian, 0.707 for a Laplacian, 0.866 if all values are alike
    // in number.
    constexpr double kLeast = 0.785;
    constexpr double kMost = 0.81;
    if (!(step >= static_cast<double>(kLeastStep) && step <= static_cast<double>(kGreatestStep))) return;
    Model model = skeleton_;
    model.step = static_cast<float>(step);
    set_offsets(model);
    const std::vector<std::uint8_t> sums = sample_sums(model);
    std::array<float, 256> scale;
    for (std::size_t sum = 0; sum < scale.size(); ++sum) scale[sum] = step_factor(-static_cast<int>(sum));
    double mean = 0;
    double square = 0;
    for (std::size_t i = 0; i < sample_.size(); ++i) {
        const auto x = static_cast<double>(sample_[i] * scale[sums[i]]);
        mean += std::abs(x);
        square += x * x;
    }
    const double ratio = mean / std::sqrt(square * static_cast<double>(sample_.size()));
    gaussian_ = ratio >= kLeast && ratio <= kMost;  // false for zeros, which have none
}

void Study::set_offsets(Model& model) const {
    for (std::size_t t = 0; t < model.tensors.size(); ++t)
        model.tensors[t].offset = offset_at(bases_[t], static_cast<double>(model.step));
}

std::vector<std::uint8_t> Study::sample_sums(const Model& model) const {
    std::vector<std::uint8_t> sums(sample_.size());
    std::size_t at = 0;
    for (const Part& part : parts_) {
        const auto out = std::span(sums).subspan(at, part.count);
        for_each_part(model.tensors, part.first, part.count,
                      [&](const TensorSide& tensor, std::size_t from, std::size_t to, std::size_t count) {
                          tensor.sums(from, out.subspan(to, count));
                      });
        at += part.count;
    }
    return sums;
}

double Study::finest_step() const noexcept {
    return largest_ / (2.0 * trellis::kMaxRadius - 8) * (1 + 0x1p-20);
}

float Study::checked_step(double step) const {
    if (!(step >= static_cast<double>(kLeastStep)) || !(step <= static_cast<double>(kGreatestStep)))
        throw ArgumentError(name_ + ": step must be 2^-80 to 2^80, got " + shown(step));
    if (largest_ / step > 2.0 * trellis::kMaxRadius - 8) {
        throw ArgumentError(name_ + ": step " + shown(step) + " is too small for a magnitude of " +
                            shown(largest_) + "; codec 'lossless' stores it exactly");
    }
    return static_cast<float>(step);
}

TrellisTrial Study::trial_of(const Outcome& outcome) const {
    if (elements() == 0) return {};
    const double scale = static_cast<double>(elements()) / static_cast<double>(sample_.size());
    const auto width = static_cast<double>(outcome.made.step);
    const double stream = outcome.made_bits * scale;
    const std::size_t chunks = (elements() + chunk_elements_ - 1) / chunk_elements_;
    const unsigned lanes = is_whole() ? outcome.made.lanes : lanes_for(stream);
    return {stream + 8.0 * static_cast<double>(outcome.made.write().size()) +
                static_cast<double>(chunks) * 24.0 * lanes,
            squared_error(outcome.statistics, outcome.made) * width * width * scale + rounding_error()};
}

// A sum of coefficients times entries is at most the product of their norms: 2^14 for entries; coefficients,
// in 1/64 step, lie within three steps of what they stand for.
bool Study::fits_integers(double step) const noexcept {
    if (!skeleton_.basis) return false;
    const double off = 3 * std::sqrt(static_cast<double>(skeleton_.basis->columns()));
    return (longest_ / step + off) * 64 * 1.01 < 0x1p31 / 0x1p14;
}

unsigned Study::lanes_for(double stream_bits) const noexcept {
    const std::size_t chunks = std::max<std::size_t>((elements() + chunk_elements_ - 1) / chunk_elements_, 1);
    const std::size_t per_chunk = std::min(chunk_elements_, elements());
    const unsigned wanted = std::min(
        rans::lanes_for(static_cast<std::size_t>(stream_bits / 8 / static_cast<double>(chunks))), 16U);
    // Sixteen lanes make a vector; where they cost less than a thousandth, decoding is to be fast. A lane
    // costs some 28 bits: twice as many would take 0.002 bits a weight and make decoding faster by little.
    const unsigned fast = per_chunk >= (std::size_t{1} << 16) ? 16U : 1U;
    // The search holds states x elements per lane.
    const std::size_t longest = std::min(trellis::kMaxPiece, trellis::kMaxPieceStates / options_.states);
    return std::max(
        {wanted, fast, static_cast<unsigned>(std::bit_ceil((per_chunk + longest - 1) / longest))});
}

// What rounding to a short element type adds: relative, for numbers whose logarithms are spread evenly,
// 2^-2m / 12 x 0.541 with m bits after the leading one.
double Study::rounding_error() const {
    const double relative = dtype() == DType::bfloat16 ? 2.75e-6 : dtype() == DType::float16 ? 4.3e-8 : 0.0;
    return relative * energy_;
}

}  // namespace nncodec::trellis_codec
