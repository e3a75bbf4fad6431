// Tensors whose axes are stored in an order that codes badly: kernels of convolutions with their channels
// last, or with their places first, as TensorFlow has them. Bytes: docs/format.md#layouts
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace nncodec::trellis_codec {

enum class LayoutKind : std::uint8_t {
    stored = 0,         // coded as it is stored
    channels_last = 1,  // stored (output, places ..., input)
    kernels_first = 2,  // stored (places ..., input, output)
};

// How a tensor of output x input x places is stored. It is coded in this order.
struct Layout {
    LayoutKind kind = LayoutKind::stored;
    std::size_t outputs = 1;
    std::size_t inputs = 1;
    std::size_t places = 1;

    bool is_stored() const noexcept { return kind == LayoutKind::stored; }
    std::size_t row() const noexcept { return inputs * places; }
};

// Of a tensor of this shape, as it is stored; of fewer than three dimensions: `stored`.
Layout layout_of(LayoutKind kind, std::span<const std::size_t> shape) noexcept;

// (output, input, places ...)
std::vector<std::size_t> coded_shape(LayoutKind kind, std::span<const std::size_t> shape);

// Whole rows from the order of coding to that of storage, or back; with `kernels_first`, all of them.
void to_stored(const Layout& layout, std::span<const float> coded, std::span<float> stored) noexcept;
void to_coded(const Layout& layout, std::span<const float> stored, std::span<float> coded) noexcept;
// Elements of 2, 4 or 8 bytes.
void to_coded(const Layout& layout, std::size_t element_bytes, std::span<const std::uint8_t> stored,
              std::span<std::uint8_t> coded) noexcept;

}  // namespace nncodec::trellis_codec
