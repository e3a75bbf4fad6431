// In which order of their axes an encoder of the trellis codec codes tensors.
#include <algorithm>
#include <optional>
#include <utility>

#include "codecs/trellis_evaluation.hpp"
#include "codecs/trellis_study.hpp"
#include "codecs/trellis_transform.hpp"

namespace nncodec::trellis_codec {
namespace {

constexpr double kLeastSaving = 0.003;                     // of a layout: decoders pay with a copy
constexpr std::size_t kWidestKernel = 15;                  // larger dimensions are channels
constexpr std::size_t kMostAtOnce = std::size_t{1} << 20;  // elements of a chunk

// Whether the last dimensions may be channels, not places in a kernel.
bool may_have_channels_last(const Shape& shape) {
    return shape.size() >= 3 && std::max(shape.back(), shape[shape.size() - 2]) > shape[1];
}

}  // namespace

// What coding a tensor in its own order costs, and in torch's, judged by scales of all axes and cosines: a
// basis is one of all tensors, and not known yet.
class Study::LayoutCosts {
  public:
    LayoutCosts(const Study& study, double step, std::size_t threads)
        : study_(study), numbers_(study.source_, study.skeleton_.tensors), step_(step), threads_(threads) {}

    bool is_possible(std::size_t t, LayoutKind kind) const {
        const Shape& shape = study_.shapes_[t];
        if (numbers_[t].empty() || !may_have_channels_last(shape)) return false;
        const Layout layout = layout_of(kind, shape);
        const Shape made = coded_shape(kind, shape);
        if (layout.places < 2 || *std::max_element(made.begin() + 2, made.end()) > kWidestKernel)
            return false;
        const bool by_rows = study_.shapes_.size() == 1 && kind == LayoutKind::channels_last;
        return by_rows ? layout.row() <= kChunkElements : study_.elements() <= kMostAtOnce;
    }

    double stored(std::size_t t) const {
        const Shape& shape = study_.shapes_[t];
        TensorSide side = study_.skeleton_.tensors[t];
        side.set_split(shape, 1, 2);
        double least = evaluation(t).first(side, numbers_[t]).cost;
        for (const auto& [rows, columns] : other_splits(shape)) {
            side.set_split(shape, rows, columns);
            least = std::min(least, evaluation(t).first(side, numbers_[t]).cost);
        }
        return least;
    }

    double coded(std::size_t t, LayoutKind kind) const {
        const Shape made = coded_shape(kind, study_.shapes_[t]);
        Model model;
        TensorSide& side = model.tensors.emplace_back(study_.skeleton_.tensors[t]);
        side.set_split(made, 1, 2);
        side.set_kernel(made);
        std::vector<float> x(numbers_[t].size());
        to_coded(layout_of(kind, study_.shapes_[t]), numbers_[t], x);
        const double plain = evaluation(t).first(side, x).cost;
        if (!study_.options_.transform || !dct::Transform::possible(side.kernel_height, side.kernel_width))
            return plain;
        side.kernels = Kernels::cosines;
        apply_transforms(model, 0, x);
        return std::min(plain, evaluation(t).first(side, x).cost);
    }

  private:
    Evaluation evaluation(std::size_t t) const {
        const auto all = static_cast<double>(std::max<std::size_t>(study_.elements(), 1));
        return {study_.options_.classes, step_, static_cast<double>(numbers_[t].size()) / all, threads_};
    }

    const Study& study_;
    Numbers numbers_;
    double step_;
    std::size_t threads_;
};

// All tensors of a network follow one custom, so they decide together.
void Study::choose_layouts(double step, std::size_t threads) {
    if (std::none_of(shapes_.begin(), shapes_.end(), may_have_channels_last)) return;
    const LayoutCosts costs(*this, step, threads);
    std::vector<std::optional<double>> stored(shapes_.size());
    auto best = LayoutKind::stored;
    double most = 0;
    for (const auto kind : {LayoutKind::channels_last, LayoutKind::kernels_first}) {
        double all = 0;
        double saved = 0;
        for (std::size_t t = 0; t < shapes_.size(); ++t) {
            if (!costs.is_possible(t, kind)) continue;
            if (!stored[t]) stored[t] = costs.stored(t);
            all += *stored[t];
            saved += *stored[t] - costs.coded(t, kind);
        }
        saved -= kLeastSaving * all;
        if (!(saved > most)) continue;
        most = saved;
        best = kind;
    }
    for (std::size_t t = 0; t < shapes_.size(); ++t) {
        if (best != LayoutKind::stored && costs.is_possible(t, best))
            skeleton_.tensors[t].layout = layout_of(best, shapes_[t]);
    }
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
