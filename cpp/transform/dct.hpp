// Orthonormal cosine transform (DCT-II) of small blocks: kernels of convolutions, runs of a matrix's row.
// Arithmetic: docs/format.md#cosine-transform
//
// Separable, in binary32, every sum in a fixed order; the matrices come from series in binary64, not from a
// library's cosine. So coefficients and numbers are the same on every machine. Many blocks are transformed
// side by side, one a lane, which needs no sum across lanes.
#pragma once

#include <cstddef>
#include <span>
#include <vector>

namespace nncodec::dct {

inline constexpr std::size_t kMaxSide = 64;
inline constexpr std::size_t kMaxArea = 256;

// What blocks of `height` x `width` need; build once, use from any thread. A run of n numbers is a block of 1
// x n.
class Transform {
  public:
    // Sides 1 to kMaxSide, their product at most kMaxArea.
    Transform(std::size_t height, std::size_t width);

    static bool possible(std::size_t height, std::size_t width) noexcept;

    std::size_t area() const noexcept { return height_ * width_; }

    // Whole blocks, rows of a block and blocks one after the other, as the weights of a convolution (out, in,
    // height, width) lie. `to` has the size of `from` and may be the same memory.
    void forward(std::span<const float> from, std::span<float> to) const;
    void inverse(std::span<const float> from, std::span<float> to) const;

  private:
    std::size_t height_;
    std::size_t width_;
    std::vector<float> rows_;     // height x height
    std::vector<float> columns_;  // width x width
};

// Row k is the k-th basis vector; n x n.
std::vector<float> matrix(std::size_t n);

}  // namespace nncodec::dct
