// In which order of their axes an encoder of the trellis codec codes tensors.
#include <algorithm>
#include <array>
#include <optional>
#include <utility>

#include "codecs/trellis_evaluation.hpp"
#include "codecs/trellis_importance.hpp"
#include "codecs/trellis_study.hpp"
#include "codecs/trellis_transform.hpp"

namespace nncodec::trellis_codec {
namespace {

// What another layout must save, as a share of the tensor's cost: decoders pay with a copy. More where the
// last dimensions may well be a kernel's, for readers of payload version 1 know no layouts.
constexpr double kLeastSavingOfLayout = 0.003;
constexpr double kLeastSavingOfKernel = 0.02;
constexpr double kBitsOfStep = 4;                          // about
constexpr std::size_t kWidestKernel = 15;                  // larger dimensions are channels
constexpr std::size_t kMostAtOnce = std::size_t{1} << 20;  // elements of a chunk

bool may_end_in_kernel(const Shape& shape) {
    return std::all_of(shape.begin() + 2, shape.end(), [](std::size_t n) { return n <= kWidestKernel; });
}

// Whether one of the last two dimensions may be channels, not places in a kernel.
bool may_end_in_channels(const Shape& shape) {
    return shape.size() >= 3 && std::max(shape.back(), shape[shape.size() - 2]) > shape[1];
}

}  // namespace

// What coding a tensor in its own order costs, and in torch's, judged by scales of all axes and cosines: a
// basis is one of all tensors, and not known yet.
class Study::LayoutCosts {
  public:
    LayoutCosts(const Study& study, double step, std::size_t threads)
        : study_(study), numbers_(study.source_, study.skeleton_.tensors), step_(step), threads_(threads) {
        std::size_t first = 0;
        for (const TensorSide& tensor : study.skeleton_.tensors) {
            const auto all = study.stored_importance_;
            importance_.push_back(all.empty() ? all : all.subspan(first, tensor.elements));
            first += tensor.elements;
        }
    }

    double stored(std::size_t t) const {
        const Shape shape = shape_of_part(t);
        return cost(t, shape, part(t, numbers_[t]), part(t, importance_[t]), true);
    }

    double coded(std::size_t t, LayoutKind kind) const {
        const Shape shape = shape_of_part(t);
        const Layout layout = layout_of(kind, shape);
        const std::span<const float> w = part(t, importance_[t]);
        std::vector<float> x(part(t, numbers_[t]).size());
        std::vector<float> weights(w.size());
        to_coded(layout, part(t, numbers_[t]), x);
        if (!w.empty()) to_coded(layout, w, weights);
        return cost(t, coded_shape(kind, shape), x, weights, false);
    }

  private:
    // Of a tensor that is too large to be kernels first, some rows will do.
    Shape shape_of_part(std::size_t t) const {
        Shape shape = study_.shapes_[t];
        const std::size_t row = numbers_[t].size() / shape[0];
        if (numbers_[t].size() > kMostAtOnce) shape[0] = std::max<std::size_t>(kChunkElements / row, 1);
        return shape;
    }
    std::span<const float> part(std::size_t t, std::span<const float> of) const {
        return of.first(of.size() / study_.shapes_[t][0] * shape_of_part(t)[0]);
    }

    double cost(std::size_t t, const Shape& shape, std::span<const float> x, std::span<const float> weights,
                bool splits) const {
        Model model;
        TensorSide& side = model.tensors.emplace_back();
        side.set_split(shape, 1, 2);
        side.set_kernel(shape);
        side.elements = x.size();
        if (!weights.empty()) set_row_and_column_steps(side, weights);
        const double steps =
            kBitsOfStep * static_cast<double>(side.row_steps.size() + side.column_steps.size());
        const Evaluation evaluation = study_.evaluation(numbers_[t].size(), step_, threads_);
        Candidate plain = evaluation.with_all_axes(side, x);
        if (splits && !side.has_steps()) evaluation.try_other_splits(shape, x, plain);
        if (!study_.options_.transform || !side.column_steps.empty() || !may_end_in_kernel(shape) ||
            !dct::Transform::possible(side.kernel_height, side.kernel_width))
            return plain.cost + steps;
        side.kernels = Kernels::cosines;
        std::vector<float> transformed(x.begin(), x.end());
        apply_transforms(model, 0, transformed);
        return std::min(plain.cost, evaluation.with_all_axes(side, transformed).cost) + steps;
    }

    const Study& study_;
    Numbers numbers_;
    std::vector<std::span<const float>> importance_;  // of each tensor
    double step_;
    std::size_t threads_;
};

bool Study::can_have_layout(std::size_t t, LayoutKind kind) const {
    const Shape& shape = shapes_[t];
    if (skeleton_.tensors[t].elements == 0 || !may_end_in_channels(shape)) return false;
    const Layout layout = layout_of(kind, shape);
    if (layout.places < 2 || !may_end_in_kernel(coded_shape(kind, shape))) return false;
    const bool by_rows = shapes_.size() == 1 && kind == LayoutKind::channels_last;
    return by_rows ? layout.row() <= kChunkElements : elements() <= kMostAtOnce;
}

// All tensors of a record are likely to follow one custom, so they decide together.
void Study::choose_layouts(double step, std::size_t threads) {
    constexpr std::array kKinds{LayoutKind::channels_last, LayoutKind::kernels_first};
    std::array<std::vector<std::size_t>, kKinds.size()> possible;
    for (std::size_t k = 0; k < kKinds.size(); ++k) {
        for (std::size_t t = 0; t < shapes_.size(); ++t) {
            if (can_have_layout(t, kKinds[k])) possible[k].push_back(t);
        }
    }
    if (possible[0].empty() && possible[1].empty()) return;
    const LayoutCosts costs(*this, step, threads);
    std::vector<std::optional<double>> stored(shapes_.size());
    std::optional<std::size_t> best;
    double most = 0;
    for (std::size_t k = 0; k < kKinds.size(); ++k) {
        double saved = 0;
        for (const std::size_t t : possible[k]) {
            if (!stored[t]) stored[t] = costs.stored(t);
            const double least = may_end_in_kernel(shapes_[t]) ? kLeastSavingOfKernel : kLeastSavingOfLayout;
            saved += (1 - least) * *stored[t] - costs.coded(t, kKinds[k]);
        }
        if (!(saved > most)) continue;
        most = saved;
        best = k;
    }
    if (!best) return;
    for (const std::size_t t : possible[*best])
        skeleton_.tensors[t].layout = layout_of(kKinds[*best], shapes_[t]);
}

void Study::take_layouts() {
    const std::size_t bytes = number_format(static_cast<std::uint8_t>(dtype())).bytes;
    const ByteView stored = stored_source_.bytes();
    coded_bytes_.assign(stored.begin(), stored.end());
    coded_importance_.assign(stored_importance_.begin(), stored_importance_.end());
    std::size_t first = 0;
    for (std::size_t t = 0; t < shapes_.size(); ++t) {
        const TensorSide& tensor = skeleton_.tensors[t];
        const std::size_t n = tensor.elements;
        if (!tensor.layout.is_stored()) {
            coded_shapes_[t] = coded_shape(tensor.layout.kind, shapes_[t]);
            to_coded(tensor.layout, bytes, stored.subspan(first * bytes, n * bytes),
                     std::span(coded_bytes_).subspan(first * bytes, n * bytes));
            if (!coded_importance_.empty()) {
                to_coded(tensor.layout, stored_importance_.subspan(first, n),
                         std::span(coded_importance_).subspan(first, n));
            }
        }
        first += n;
    }
    source_ = FloatSource(dtype(), coded_bytes_);
    importance_ = coded_importance_;
}

}  // namespace nncodec::trellis_codec
