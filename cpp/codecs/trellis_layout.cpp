#include "codecs/trellis_layout.hpp"

#include <algorithm>
#include <functional>
#include <numeric>

namespace nncodec::trellis_codec {
namespace {

// move(coded, stored): an element's places in both orders, of `n` elements: whole rows, all of them with
// kernels_first.
template <typename Move>
void for_each_element(const Layout& layout, std::size_t n, Move move) noexcept {
    const std::size_t inputs = layout.inputs;
    const std::size_t places = layout.places;
    if (n == 0) return;
    if (layout.kind == LayoutKind::channels_last) {
        for (std::size_t first = 0; first < n; first += layout.row()) {
            for (std::size_t i = 0; i < inputs; ++i) {
                for (std::size_t p = 0; p < places; ++p) move(first + i * places + p, first + p * inputs + i);
            }
        }
        return;
    }
    constexpr std::size_t kTogether = 16;  // outputs, so that both sides are met in pieces of a cache line
    const std::size_t outputs = layout.outputs;
    for (std::size_t first = 0; first < outputs; first += kTogether) {
        const std::size_t end = std::min(first + kTogether, outputs);
        for (std::size_t i = 0; i < inputs; ++i) {
            for (std::size_t p = 0; p < places; ++p) {
                for (std::size_t o = first; o < end; ++o)
                    move((o * inputs + i) * places + p, (p * inputs + i) * outputs + o);
            }
        }
    }
}

template <std::size_t kBytes>
void copy_bytes(const Layout& layout, std::span<const std::uint8_t> stored,
                std::span<std::uint8_t> coded) noexcept {
    for_each_element(layout, stored.size() / kBytes, [&](std::size_t to, std::size_t from) {
        std::copy_n(stored.data() + from * kBytes, kBytes, coded.data() + to * kBytes);
    });
}

}  // namespace

Layout layout_of(LayoutKind kind, std::span<const std::size_t> shape) noexcept {
    const std::size_t d = shape.size();
    if (d < 3) return {};
    const auto product = [&](std::size_t from, std::size_t count) {
        const auto of = shape.subspan(from, count);
        return std::accumulate(of.begin(), of.end(), std::size_t{1}, std::multiplies<>());
    };
    switch (kind) {
        case LayoutKind::channels_last:
            return {kind, shape[0], shape[d - 1], product(1, d - 2)};
        case LayoutKind::kernels_first:
            return {kind, shape[d - 1], shape[d - 2], product(0, d - 2)};
        case LayoutKind::stored:
            break;
    }
    return {};
}

std::vector<std::size_t> coded_shape(LayoutKind kind, std::span<const std::size_t> shape) {
    std::vector<std::size_t> made(shape.begin(), shape.end());
    if (kind == LayoutKind::channels_last) {
        std::rotate(made.begin() + 1, made.end() - 1, made.end());
    } else if (kind == LayoutKind::kernels_first) {
        std::rotate(made.begin(), made.end() - 2, made.end());
        std::swap(made[0], made[1]);
    }
    return made;
}

void to_stored(const Layout& layout, std::span<const float> coded, std::span<float> stored) noexcept {
    for_each_element(layout, coded.size(),
                     [&](std::size_t from, std::size_t to) { stored[to] = coded[from]; });
}

void to_coded(const Layout& layout, std::span<const float> stored, std::span<float> coded) noexcept {
    for_each_element(layout, stored.size(),
                     [&](std::size_t to, std::size_t from) { coded[to] = stored[from]; });
}

void to_coded(const Layout& layout, std::size_t element_bytes, std::span<const std::uint8_t> stored,
              std::span<std::uint8_t> coded) noexcept {
    switch (element_bytes) {
        case 2:
            return copy_bytes<2>(layout, stored, coded);
        case 4:
            return copy_bytes<4>(layout, stored, coded);
        default:
            return copy_bytes<8>(layout, stored, coded);
    }
}

}  // namespace nncodec::trellis_codec
