#include "quantize/class_order.hpp"

#include <algorithm>
#include <cstring>
#include <numeric>

#include "base/dispatch.hpp"
#include "base/error.hpp"
#include "quantize/class_order_kernels.hpp"

namespace nncodec::class_order {
namespace {

template <typename T>
void restore_from(std::size_t first, std::span<const std::uint8_t> classes, std::span<const T> values,
                  Places& next, std::span<T> out) noexcept {
    for (std::size_t i = first; i < classes.size(); ++i) out[i] = values[next[classes[i]]++];
}

void check_sizes(std::size_t classes, const Places& places, std::size_t values, std::size_t out) {
    if (values != classes || out != classes || places.back() != classes)
        throw ArgumentError("there must be as many values, and places for them, as classes");
}

}  // namespace

Places places_of(std::span<const std::uint8_t> classes) noexcept {
    // Neighbours tend to have one class: eight counters each, lest one wait for the other.
    constexpr std::size_t kCounters = 8;
    std::array<std::array<std::uint32_t, 256>, kCounters> counts{};
    std::size_t i = 0;
    for (; i + kCounters <= classes.size(); i += kCounters) {
        std::uint64_t eight;
        std::memcpy(&eight, classes.data() + i, sizeof eight);
        for (std::size_t k = 0; k < kCounters; ++k) ++counts[k][eight >> (8 * k) & 0xFF];
    }
    for (; i < classes.size(); ++i) ++counts[0][classes[i]];
    for (std::size_t k = 1; k < kCounters; ++k) {
        for (std::size_t c = 0; c < 256; ++c) counts[0][c] += counts[k][c];
    }
    return places_of(counts[0]);
}

Places places_of(const std::array<std::uint32_t, 256>& counts) noexcept {
    Places first{};
    for (std::size_t c = 0; c < 256; ++c) first[c + 1] = first[c] + counts[c];
    return first;
}

std::vector<std::uint32_t> order_of(std::span<const std::uint8_t> classes) {
    Places next = places_of(classes);
    std::vector<std::uint32_t> order(classes.size());
    for (std::size_t i = 0; i < classes.size(); ++i)
        order[next[classes[i]]++] = static_cast<std::uint32_t>(i);
    return order;
}

void sorted(const Places& places, std::span<std::uint8_t> out) noexcept {
    for (std::size_t c = 0; c < 256; ++c) {
        const std::size_t count = places[c + 1] - places[c];
        if (count != 0) std::memset(out.data() + places[c], static_cast<int>(c), count);
    }
}

void restore(std::span<const std::uint8_t> classes, const Places& places,
             std::span<const std::int16_t> values, std::span<std::int16_t> out) {
    check_sizes(classes.size(), places, values.size(), out.size());
    Places next = places;
    std::size_t done = 0;
#if defined(__x86_64__)
    if (active_isa() == Isa::avx512)
        done = restore_avx512(classes.data(), classes.size(), values.data(), next.data(), out.data());
#endif
    restore_from(done, classes, values, next, out);
}

void restore(std::span<const std::uint8_t> classes, const Places& places, std::span<const float> values,
             std::span<float> out) {
    check_sizes(classes.size(), places, values.size(), out.size());
    Places next = places;
    restore_from(0, classes, values, next, out);
}

}  // namespace nncodec::class_order
