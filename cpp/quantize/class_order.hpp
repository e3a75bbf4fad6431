// Elements by class: the order in which a trellis meets them (low rates one after the other, high rates after
// them), and the way back.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <vector>

namespace nncodec::class_order {

// Where each class begins in that order; the last entry is the number of elements.
using Places = std::array<std::uint32_t, 257>;
Places places_of(std::span<const std::uint8_t> classes) noexcept;
Places places_of(const std::array<std::uint32_t, 256>& counts) noexcept;

// The numbers of the elements, by class, those of a class ascending.
std::vector<std::uint32_t> order_of(std::span<const std::uint8_t> classes);

// The classes themselves in that order.
void sorted(const Places& places, std::span<std::uint8_t> out) noexcept;

// out[order[i]] = values[i]. `places` are those of the classes. Throws ArgumentError when sizes differ.
void restore(std::span<const std::uint8_t> classes, const Places& places,
             std::span<const std::int16_t> values, std::span<std::int16_t> out);
void restore(std::span<const std::uint8_t> classes, const Places& places, std::span<const float> values,
             std::span<float> out);

}  // namespace nncodec::class_order
