// What a study decides: steps that importance asks for, transforms and scales that pay.
#include <algorithm>
#include <array>
#include <cmath>
#include <numeric>
#include <utility>

#include "codecs/trellis_evaluation.hpp"
#include "codecs/trellis_importance.hpp"
#include "codecs/trellis_scales.hpp"
#include "codecs/trellis_study.hpp"
#include "codecs/trellis_transform.hpp"
#include "quantize/scales.hpp"

namespace nncodec::trellis_codec {
namespace {

constexpr std::size_t kMaxKernel = 64;      // of a basis
constexpr std::size_t kFewestColumns = 16;  // of a column transform
constexpr std::size_t kRowsPerColumn = 4;
constexpr double kBitsPerEntry = 2;    // of a basis: about four bits for each degree of freedom
constexpr double kErrorOfStep = 0.17;  // squared error over that of a step

// Bits that a transform saves on Gaussian rows, at an error of `floor` in each coefficient.
double estimated_gain(const klt::Moments& moments, std::size_t n, double floor) {
    std::vector<double> matrix = moments.matrix;
    for (std::size_t i = 0; i < n; ++i) matrix[i * n + i] += floor;
    const std::vector<double> pivots = klt::cholesky_pivots(std::move(matrix), n);
    if (pivots.empty()) return std::numeric_limits<double>::max();
    std::int64_t log2 = 0;
    for (std::size_t i = 0; i < n; ++i)
        log2 += scales::fixed_log2(moments.matrix[i * n + i] + floor) - scales::fixed_log2(pivots[i]);
    return static_cast<double>(log2) * 0x1p-17 * static_cast<double>(moments.rows);
}

std::optional<klt::EncodedBasis> fit_basis(klt::Moments moments, std::size_t n, double floor) {
    std::vector<double> values(n);
    std::vector<double> vectors(n * n);
    if (moments.rows == 0 || !klt::eigenvectors(std::move(moments.matrix), n, values, vectors)) return {};
    for (double& value : values) value = std::max(value, 0.0) + floor;
    return klt::encode_basis(std::move(vectors), values, n, static_cast<double>(moments.rows));
}

double mean_square(std::span<const float> values) {
    double sum = 0;
    for (const float x : values) sum += static_cast<double>(x) * static_cast<double>(x);
    return sum / static_cast<double>(std::max<std::size_t>(values.size(), 1));
}

double longest_row(std::span<const float> x, std::size_t n) {
    double longest = 0;
    for (std::size_t at = 0; at < x.size(); at += n)
        longest = std::max(longest, mean_square(x.subspan(at, n)));
    return std::sqrt(longest * static_cast<double>(n));
}

double floor_of(double step, double mean, const klt::Moments& moments, std::size_t n) {
    return kErrorOfStep * step * step / mean * static_cast<double>(moments.rows) / static_cast<double>(n);
}

}  // namespace

Evaluation Study::evaluation(std::size_t n, double step, std::size_t threads) const noexcept {
    const auto all = static_cast<double>(std::max<std::size_t>(elements(), 1));
    return {options_.classes, step, static_cast<double>(n) / all, threads};
}

void Study::choose_steps() {
    const std::vector<Shape>& shapes = coded_shapes_;
    std::size_t first = 0;
    for (std::size_t t = 0; t < shapes.size(); ++t) {
        TensorSide& tensor = skeleton_.tensors[t];
        const auto dimensions = static_cast<unsigned>(shapes[t].size());
        tensor.set_split(shapes[t], dimensions >= 2 ? 1 : 0, std::min(dimensions, 2U));
        tensor.set_kernel(shapes[t]);
        const auto weights = importance_.empty() ? importance_ : importance_.subspan(first, tensor.elements);
        first += tensor.elements;
        if (weights.empty()) continue;
        const double mean = set_row_and_column_steps(tensor, weights);
        if (shapes.size() > 1) {
            const int step = step_for(mean, importance_mean_);
            if (step != 0) tensor.step = static_cast<std::int8_t>(step);
        }
        has_steps_ = has_steps_ || tensor.has_steps();
    }
}

// One part being decided: its numbers and the best of what was tried for each tensor.
class Study::Chooser {
  public:
    Chooser(const Study& study, double step, std::size_t threads)
        : study_(study),
          shapes_(study.coded_shapes_),
          step_(step),
          threads_(threads),
          numbers_(study.source_, study.skeleton_.tensors) {
        for (std::size_t t = 0; t < shapes_.size(); ++t) best_.push_back(candidate(t, Kernels::plain, {}));
    }

    void try_cosines() {
        for (std::size_t t = 0; t < shapes_.size(); ++t) {
            const TensorSide& side = tensor(t);
            if (!has_kernels(t) || !dct::Transform::possible(side.kernel_height, side.kernel_width)) continue;
            Candidate other = candidate(t, Kernels::cosines, {});
            if (other.cost < best_[t].cost) best_[t] = std::move(other);
        }
    }

    void try_kernel_basis() {
        const std::size_t n = most_common_kernel();
        if (n == 0) return;
        std::vector<std::span<const float>> kernels;
        std::vector<std::size_t> which;
        for (std::size_t t = 0; t < shapes_.size(); ++t) {
            if (!has_kernels(t) || tensor(t).kernel() != n) continue;
            which.push_back(t);
            for (std::size_t at = 0; at < numbers_[t].size(); at += n)
                kernels.push_back(numbers_[t].subspan(at, n));
        }
        auto moments =
            klt::second_moments(kernels.size(), n, threads_, [&](std::size_t row, std::span<double> out) {
                std::copy(kernels[row].begin(), kernels[row].end(), out.begin());
            });
        double mean = 0;
        for (const std::size_t t : which)
            mean += mean_square(numbers_[t]) / static_cast<double>(which.size());
        if (!(mean > 0)) return;
        const double floor = floor_of(step_, mean, moments, n);
        auto found = fit_basis(std::move(moments), n, floor);
        if (!found) return;
        Model with;
        with.basis = found->basis;
        std::vector<Candidate> others;
        double gain = -8.0 * static_cast<double>(found->bytes.size());
        for (const std::size_t t : which) {
            others.push_back(candidate(t, Kernels::basis, with));
            gain += std::max(best_[t].cost - others.back().cost, 0.0);
        }
        if (!(gain > 0)) return;
        for (std::size_t i = 0; i < which.size(); ++i) {
            if (others[i].cost < best_[which[i]].cost) best_[which[i]] = std::move(others[i]);
        }
        basis_ = std::move(found);
    }

    void try_column_basis() {
        if (shapes_.size() != 1 || shapes_[0].size() != 2 || basis_) return;
        const TensorSide& side = tensor(0);
        const std::size_t n = side.row_elements();
        if (n < kFewestColumns || n > klt::kMaxColumns || side.rows < kRowsPerColumn * n) return;
        if (!side.column_steps.empty()) return;
        const std::span<const float> x = numbers_[0];
        auto moments =
            klt::second_moments(side.rows, n, threads_, [&](std::size_t row, std::span<double> out) {
                std::copy_n(x.begin() + static_cast<std::ptrdiff_t>(row * n), n, out.begin());
            });
        const double mean = mean_square(x);
        if (moments.rows == 0 || !(mean > 0)) return;
        const double floor = floor_of(step_, mean, moments, n);
        if (!(estimated_gain(moments, n, floor) > kBitsPerEntry * static_cast<double>(n * n))) return;
        auto found = fit_basis(std::move(moments), n, floor);
        if (!found) return;
        Model with;
        with.basis = found->basis;
        with.basis_of_columns = true;
        Candidate other = candidate(0, Kernels::plain, with);
        if (!(other.cost + 8.0 * static_cast<double>(found->bytes.size()) < best_[0].cost)) return;
        best_[0] = std::move(other);
        basis_ = std::move(found);
        of_columns_ = true;
    }

    // Transforms are chosen with scales of all axes, for time; now fewer are tried.
    void finish(Study& study) {
        Model with;
        if (basis_) {
            with.basis = basis_->basis;
            with.basis_of_columns = of_columns_;
        }
        study.bases_.clear();
        std::vector<float> made;
        for (std::size_t t = 0; t < best_.size(); ++t) {
            const std::span<const float> x = coefficients(best_[t].side, t, with, made);
            evaluation_of(t).try_fewer_axes(x, best_[t]);
            for (const float c : x)
                study.largest_ = std::max(study.largest_, static_cast<double>(std::abs(c)));
            if (best_[t].side.kernels == Kernels::basis || of_columns_)
                study.longest_ = std::max(study.longest_, longest_row(x, basis_->basis.columns()));
            study.skeleton_.tensors[t] = std::move(best_[t].side);
            study.bases_.push_back(best_[t].base);
        }
        if (!basis_) return;
        study.skeleton_.basis = std::move(basis_->basis);
        study.skeleton_.basis_bytes = std::move(basis_->bytes);
        study.skeleton_.basis_of_columns = of_columns_;
    }

  private:
    const TensorSide& tensor(std::size_t t) const { return study_.skeleton_.tensors[t]; }

    bool has_kernels(std::size_t t) const {
        return shapes_[t].size() >= 3 && tensor(t).elements > 0 && tensor(t).kernel() >= 2 &&
               tensor(t).column_steps.empty();
    }

    // Of the most elements; 0: none.
    std::size_t most_common_kernel() const {
        std::array<std::size_t, kMaxKernel + 1> elements{};
        for (std::size_t t = 0; t < shapes_.size(); ++t) {
            if (has_kernels(t) && tensor(t).kernel() <= kMaxKernel)
                elements[tensor(t).kernel()] += tensor(t).elements;
        }
        const auto most = std::max_element(elements.begin(), elements.end());
        return *most == 0 ? 0 : static_cast<std::size_t>(most - elements.begin());
    }

    // What is quantised of a tensor.
    std::span<const float> coefficients(const TensorSide& side, std::size_t t, const Model& with,
                                        std::vector<float>& made) const {
        if (side.kernels == Kernels::plain && !with.basis_of_columns && !side.has_steps()) return numbers_[t];
        Model model;
        model.tensors = {side};
        model.basis = with.basis;
        model.basis_of_columns = with.basis_of_columns;
        made.assign(numbers_[t].begin(), numbers_[t].end());
        apply_transforms(model, 0, made);
        side.divide_steps(0, made);
        return made;
    }

    Evaluation evaluation_of(std::size_t t) const noexcept {
        return study_.evaluation(numbers_[t].size(), step_, threads_);
    }

    Candidate candidate(std::size_t t, Kernels kernels, const Model& with) const {
        TensorSide side = tensor(t);
        side.kernels = kernels;
        std::vector<float> made;
        const std::span<const float> x = coefficients(side, t, with, made);
        Candidate found = evaluation_of(t).with_all_axes(side, x);
        if (kernels != Kernels::plain || with.basis_of_columns || side.has_steps() ||
            !side.layout.is_stored())
            return found;
        evaluation_of(t).try_other_splits(shapes_[t], x, found);
        return found;
    }

    const Study& study_;
    const std::vector<Shape>& shapes_;
    double step_;
    std::size_t threads_;
    Numbers numbers_;
    std::vector<Candidate> best_;
    std::optional<klt::EncodedBasis> basis_;
    bool of_columns_ = false;
};

void Study::choose_transforms(double step, std::size_t threads) {
    Chooser chooser(*this, step, threads);
    if (options_.transform) {
        chooser.try_cosines();
        chooser.try_kernel_basis();
        chooser.try_column_basis();
    }
    chooser.finish(*this);
}

}  // namespace nncodec::trellis_codec
