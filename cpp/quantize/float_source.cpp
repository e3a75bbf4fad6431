#include "quantize/float_source.hpp"

#include <algorithm>
#include <array>
#include <atomic>
#include <bit>
#include <cmath>
#include <limits>
#include <vector>

#include "base/parallel.hpp"

namespace nncodec {
namespace {

double from_half(std::uint16_t bits) noexcept {
    const std::uint64_t sign = std::uint64_t{bits & 0x8000U} << 48;
    const unsigned exponent = (bits >> 10) & 31U;
    const std::uint64_t mantissa = bits & 1023U;
    if (exponent == 0) {  // mantissa * 2^-24, exact
        const double magnitude = static_cast<double>(mantissa) * 0x1p-24;
        return sign != 0 ? -magnitude : magnitude;
    }
    const std::uint64_t wide = exponent == 31 ? 2047 : exponent + 1023 - 15;
    return std::bit_cast<double>(sign | (wide << 52) | (mantissa << 42));
}

// Rounds to a 16-bit float of `mantissa_bits` and the given largest exponent; works on the integer magnitude
// so that there is one rounding only (double -> float -> bfloat16 would be two).
std::uint16_t to_16_bits(double value, unsigned mantissa_bits, int least_exponent,
                         std::uint16_t largest) noexcept {
    const auto bits = std::bit_cast<std::uint64_t>(value);
    const auto sign = static_cast<std::uint16_t>((bits >> 48) & 0x8000U);
    const int exponent = static_cast<int>((bits >> 52) & 2047U) - 1023;
    if (exponent < least_exponent - static_cast<int>(mantissa_bits) - 2) return sign;
    const std::uint64_t significand = (bits & ((std::uint64_t{1} << 52) - 1)) | (std::uint64_t{1} << 52);
    // A subnormal result loses one more bit for each step of the exponent below the least.
    const int below = std::max(0, least_exponent - exponent);
    const unsigned drop = 52 - mantissa_bits + static_cast<unsigned>(below);
    std::uint64_t kept = significand >> drop;
    const std::uint64_t rest = significand & ((std::uint64_t{1} << drop) - 1);
    const std::uint64_t half = std::uint64_t{1} << (drop - 1);
    if (rest > half || (rest == half && (kept & 1U) != 0)) ++kept;
    // The hidden bit of a normal number adds the one that is missing in the biased exponent; a carry does the
    // same.
    const std::uint64_t biased =
        below > 0 ? 0 : static_cast<std::uint64_t>(exponent - least_exponent) << mantissa_bits;
    return static_cast<std::uint16_t>(sign | std::min<std::uint64_t>(biased + kept, largest));
}

template <typename T, typename Convert>
void load_as(const std::uint8_t* from, std::span<double> out, Convert convert) noexcept {
    for (std::size_t i = 0; i < out.size(); ++i) out[i] = convert(load_le<T>(from + i * sizeof(T)));
}

std::size_t element_bytes(DType dtype) noexcept {
    return dtype == DType::float64 ? 8 : dtype == DType::float32 ? 4 : 2;
}

}  // namespace

bool is_quantisable(DType dtype) noexcept {
    return dtype == DType::float64 || dtype == DType::float32 || dtype == DType::float16 ||
           dtype == DType::bfloat16;
}

std::uint64_t round_to(DType dtype, double value) noexcept {
    switch (dtype) {
        case DType::float64: {
            constexpr double kLargest = std::numeric_limits<double>::max();
            return std::bit_cast<std::uint64_t>(std::clamp(value, -kLargest, kLargest));
        }
        case DType::float16:
            return to_16_bits(value, 10, -14, 0x7BFF);
        case DType::bfloat16:
            return to_16_bits(value, 7, -126, 0x7F7F);
        default: {
            constexpr double kLargest = std::numeric_limits<float>::max();
            const auto narrow = static_cast<float>(std::clamp(value, -kLargest, kLargest));
            return std::bit_cast<std::uint32_t>(narrow);
        }
    }
}

FloatSource::FloatSource(DType dtype, ByteView data) : dtype_(dtype), stored_(dtype), data_(data), size_(0) {
    if (!is_quantisable(dtype)) {
        throw ArgumentError("element type " + std::to_string(static_cast<unsigned>(dtype)) +
                            " is none that a quantiser takes: float64, float32, float16, bfloat16");
    }
    const std::size_t width = element_bytes(dtype);
    if (data.size() % width != 0) throw ArgumentError("data is no whole number of elements");
    size_ = data.size() / width;
}

FloatSource::FloatSource(const FloatSource& numbers, const klt::Basis& basis)
    : dtype_(DType::float32),
      stored_(numbers.stored_),
      data_(numbers.data_),
      size_(numbers.size_),
      basis_(&basis) {
    static std::atomic<std::uint64_t> made{0};
    id_ = ++made;
}

std::span<const float> FloatSource::in_place() const noexcept {
    const bool aligned = reinterpret_cast<std::uintptr_t>(data_.data()) % alignof(float) == 0;
    if (stored_ != DType::float32 || basis_ != nullptr || std::endian::native != std::endian::little ||
        !aligned)
        return {};
    return {reinterpret_cast<const float*>(data_.data()), size_};
}

void FloatSource::load(std::size_t first, std::span<double> out) const {
    if (basis_ == nullptr) return load_numbers(first, out);
    load_coefficients(first, out);
}

void FloatSource::load_coefficients(std::size_t first, std::span<double> out) const {
    constexpr std::size_t kRows = 32;
    // The rows that a thread made last: it asks for them piece by piece.
    struct Rows {
        std::uint64_t id = 0;
        std::size_t block = 0;
        std::vector<double> loaded;
        std::vector<float> numbers;
        std::vector<float> coefficients;
    };
    thread_local Rows rows;
    const std::size_t block_size = kRows * basis_->columns();
    for (std::size_t done = 0; done < out.size();) {
        const std::size_t at = first + done;
        const std::size_t block = at / block_size;
        if (rows.id != id_ || rows.block != block) {
            const std::size_t begin = block * block_size;
            rows.id = 0;  // should memory run out
            rows.loaded.resize(std::min(block_size, size_ - begin));
            rows.numbers.resize(rows.loaded.size());
            rows.coefficients.resize(rows.loaded.size());
            load_numbers(begin, rows.loaded);
            std::transform(rows.loaded.begin(), rows.loaded.end(), rows.numbers.begin(),
                           [](double x) { return static_cast<float>(x); });
            basis_->forward(rows.numbers, rows.coefficients);
            rows.id = id_;
            rows.block = block;
        }
        const std::size_t inner = at - block * block_size;
        const std::size_t count = std::min(out.size() - done, rows.coefficients.size() - inner);
        std::transform(rows.coefficients.begin() + static_cast<std::ptrdiff_t>(inner),
                       rows.coefficients.begin() + static_cast<std::ptrdiff_t>(inner + count),
                       out.begin() + static_cast<std::ptrdiff_t>(done),
                       [](float x) { return static_cast<double>(x); });
        done += count;
    }
}

void FloatSource::load_numbers(std::size_t first, std::span<double> out) const noexcept {
    const std::uint8_t* from = data_.data() + first * element_bytes(stored_);
    switch (stored_) {
        case DType::float64:
            load_as<double>(from, out, [](double x) { return x; });
            return;
        case DType::float16:
            load_as<std::uint16_t>(from, out, from_half);
            return;
        case DType::bfloat16:
            load_as<std::uint16_t>(from, out, [](std::uint16_t x) {
                return static_cast<double>(std::bit_cast<float>(std::uint32_t{x} << 16));
            });
            return;
        default:
            load_as<float>(from, out, [](float x) { return static_cast<double>(x); });
            return;
    }
}

FloatStatistics float_statistics(const FloatSource& source, std::span<const float> importance,
                                 std::size_t threads) {
    constexpr std::size_t kBlock = 1U << 16;
    constexpr std::size_t kLanes = 8;
    const std::size_t blocks = (source.size() + kBlock - 1) / kBlock;
    std::vector<FloatStatistics> of(blocks);
    parallel_for(blocks, threads, [&](std::size_t block) {
        std::array<double, 1024> buffer;
        std::array<double, kLanes> energy{};
        FloatStatistics& s = of[block];
        const std::size_t end = std::min(source.size(), (block + 1) * kBlock);
        for (std::size_t at = block * kBlock; at < end; at += buffer.size()) {
            const std::span<double> x(buffer.data(), std::min(buffer.size(), end - at));
            source.load(at, x);
            for (std::size_t i = 0; i < x.size(); ++i) {
                const double a = std::abs(x[i]);
                if (!(a <= std::numeric_limits<double>::max())) {
                    ++s.nonfinite;
                    continue;
                }
                s.largest = std::max(s.largest, a);
                energy[i % kLanes] +=
                    (importance.empty() ? 1.0 : static_cast<double>(importance[at + i])) * a * a;
            }
        }
        for (const double lane : energy) s.energy += lane;
    });
    FloatStatistics all;
    for (const FloatStatistics& s : of) {
        all.energy += s.energy;
        all.largest = std::max(all.largest, s.largest);
        all.nonfinite += s.nonfinite;
    }
    return all;
}

void load_floats(const FloatSource& source, std::size_t first, std::span<float> out) {
    std::array<double, 1024> x;
    for (std::size_t at = 0; at < out.size(); at += x.size()) {
        const std::size_t n = std::min(x.size(), out.size() - at);
        source.load(first + at, std::span(x.data(), n));
        for (std::size_t i = 0; i < n; ++i) out[at + i] = static_cast<float>(x[i]);
    }
}

}  // namespace nncodec
