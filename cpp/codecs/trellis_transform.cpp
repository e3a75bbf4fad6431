#include "codecs/trellis_transform.hpp"

#include <algorithm>
#include <limits>
#include <vector>

namespace nncodec::trellis_codec {
namespace {

constexpr std::size_t kAtOnce = 4096;  // numbers that stay in the nearest cache

// What is not a number, or infinite, becomes the largest one.
void make_finite(std::span<float> values) noexcept {
    constexpr float kLargest = std::numeric_limits<float>::max();
    for (float& x : values) {
        x = x < kLargest ? x : kLargest;
        x = x > -kLargest ? x : -kLargest;
    }
}

void by_basis(const klt::Basis& basis, bool forth, std::span<float> values) {
    const std::size_t n = basis.columns();
    const std::size_t step = std::max<std::size_t>(kAtOnce / n / 16, 1) * 16 * n;
    thread_local std::vector<float> made;
    made.resize(step);
    for (std::size_t at = 0; at < values.size(); at += step) {
        const auto part = values.subspan(at, std::min(step, values.size() - at));
        const std::span<float> out(made.data(), part.size());
        if (forth) {
            basis.forward(part, out);
        } else {
            basis.inverse(part, out);
            make_finite(out);
        }
        std::copy(out.begin(), out.end(), part.begin());
    }
}

void by_cosines(const TensorSide& tensor, bool forth, std::span<float> values) {
    const dct::Transform transform(tensor.kernel_height, tensor.kernel_width);
    const std::size_t area = transform.area();
    const std::size_t step = std::max<std::size_t>(kAtOnce / area / 64, 1) * 64 * area;
    for (std::size_t at = 0; at < values.size(); at += step) {
        const auto part = values.subspan(at, std::min(step, values.size() - at));
        if (forth) {
            transform.forward(part, part);
        } else {
            transform.inverse(part, part);
            make_finite(part);
        }
    }
}

void run(const Model& model, bool forth, std::size_t first, std::span<float> values) {
    const bool floats = forth || !model.integers;
    if (model.basis && model.basis_of_columns) {
        if (floats) by_basis(*model.basis, forth, values);
        return;
    }
    for_each_part(model.tensors, first, values.size(),
                  [&](const TensorSide& tensor, std::size_t, std::size_t at, std::size_t count) {
                      const auto part = values.subspan(at, count);
                      if (tensor.kernels == Kernels::basis && floats) by_basis(*model.basis, forth, part);
                      if (tensor.kernels == Kernels::cosines) by_cosines(tensor, forth, part);
                  });
}

}  // namespace

void undo_transforms(const Model& model, std::size_t first, std::span<float> values) {
    run(model, false, first, values);
}

void apply_transforms(const Model& model, std::size_t first, std::span<float> values) {
    run(model, true, first, values);
}

}  // namespace nncodec::trellis_codec
