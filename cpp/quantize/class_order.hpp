// Elements by class: the order in which a trellis meets them (low rates one after the other, high rates after
// them), and the way back.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <vector>

namespace nncodec::class_order {

// What each sum 0 .. 255 becomes, and how often each class occurs.
using Map = std::array<std::uint8_t, 256>;
using Counts = std::array<std::uint32_t, 256>;

// out[i] = map[own + parts[i], clamped to 0 .. 255]; |own| and all |parts| at most 16383, as many parts as
// elements of out.
void classes_of_row(int own, std::span<const std::int16_t> parts, const Map& map,
                    std::span<std::uint8_t> out) noexcept;

// The same sums themselves.
void sums_of_row(int own, std::span<const std::int16_t> parts, std::span<std::uint8_t> out) noexcept;

// How often each class occurs; all are below n_classes.
Counts counts_of(std::span<const std::uint8_t> classes, std::size_t n_classes = 256) noexcept;

// Where each class begins in that order; the last entry is the number of elements.
using Places = std::array<std::uint32_t, 257>;
Places places_of(std::span<const std::uint8_t> classes, std::size_t n_classes = 256) noexcept;

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
