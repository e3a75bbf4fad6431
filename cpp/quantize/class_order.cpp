#include "quantize/class_order.hpp"

#include <algorithm>
#include <cstring>
#include <numeric>

#include "base/dispatch.hpp"
#include "base/error.hpp"
#include "quantize/class_order_kernels.hpp"

namespace nncodec::class_order {
namespace {

// Elements from `first` on, from both ends towards the middle: where neighbours have one class, each waits
// for the place of the one before, and so two wait at a time.
template <typename T>
void restore_from(std::size_t first, std::span<const std::uint8_t> classes, std::span<const T> values,
                  Places& next, const Places& places, std::span<T> out) noexcept {
    Counts last;
    std::copy(places.begin() + 1, places.end(), last.begin());
    std::size_t end = classes.size();
    for (; end - first >= 2; ++first) {
        out[first] = values[next[classes[first]]++];
        --end;
        out[end] = values[--last[classes[end]]];
    }
    if (first != end) out[first] = values[next[classes[first]]];
}

void check_sizes(std::size_t classes, const Places& places, std::size_t values, std::size_t out) {
    if (values != classes || out != classes || places.back() != classes)
        throw ArgumentError("there must be as many values, and places for them, as classes");
}

}  // namespace

void classes_of_row(int own, std::span<const std::int16_t> parts, const Map& map,
                    std::span<std::uint8_t> out) noexcept {
#if defined(__x86_64__)
    if (active_isa() == Isa::avx512)
        return classes_of_row_avx512(own, parts.data(), out.size(), map.data(), out.data());
#endif
    for (std::size_t i = 0; i < out.size(); ++i)
        out[i] = map[static_cast<std::size_t>(std::clamp(own + parts[i], 0, 255))];
}

void sums_of_row(int own, std::span<const std::int16_t> parts, std::span<std::uint8_t> out) noexcept {
    const auto from = static_cast<std::int16_t>(own);
    for (std::size_t i = 0; i < out.size(); ++i) {  // 16 bits are enough: a vector instruction each
        const auto sum = static_cast<std::int16_t>(from + parts[i]);
        out[i] = static_cast<std::uint8_t>(std::clamp<std::int16_t>(sum, 0, 255));
    }
}

Counts counts_of(std::span<const std::uint8_t> classes, [[maybe_unused]] std::size_t n_classes) noexcept {
    Counts counts{};
    std::size_t i = 0;
#if defined(__x86_64__)
    // A pass over all elements for each class: only where there are few.
    const auto few = static_cast<unsigned>(n_classes);
    if (active_isa() == Isa::avx512 && n_classes <= 64) {
        i = count_avx512(classes.data(), classes.size(), few, counts.data());
    } else if (active_isa() == Isa::avx2 && n_classes <= 32) {
        i = count_avx2(classes.data(), classes.size(), few, counts.data());
    }
#endif
    // Neighbours tend to have one class: eight counters each, lest one wait for the other.
    constexpr std::size_t kCounters = 8;
    std::array<Counts, kCounters> found{};
    for (; i + kCounters <= classes.size(); i += kCounters) {
        std::uint64_t eight;
        std::memcpy(&eight, classes.data() + i, sizeof eight);
        for (std::size_t k = 0; k < kCounters; ++k) ++found[k][eight >> (8 * k) & 0xFF];
    }
    for (; i < classes.size(); ++i) ++found[0][classes[i]];
    for (const Counts& part : found) {
        for (std::size_t c = 0; c < 256; ++c) counts[c] += part[c];
    }
    return counts;
}

Places places_of(std::span<const std::uint8_t> classes, std::size_t n_classes) noexcept {
    const Counts counts = counts_of(classes, n_classes);
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
    restore_from(done, classes, values, next, places, out);
}

void restore(std::span<const std::uint8_t> classes, const Places& places, std::span<const float> values,
             std::span<float> out) {
    check_sizes(classes.size(), places, values.size(), out.size());
    Places next = places;
    restore_from(0, classes, values, next, places, out);
}

}  // namespace nncodec::class_order
