#include "transform/dct.hpp"

#include <algorithm>
#include <array>
#include <cmath>

#include "base/dispatch.hpp"
#include "base/error.hpp"
#include "transform/dct_impl.hpp"

namespace nncodec::dct {

constinit const Kernels kScalarKernels{&transform<true>, &transform<false>};

namespace {

const Kernels& kernels() {
    switch (active_isa()) {
#if defined(__x86_64__)
        case Isa::avx512:
            return kAvx512Kernels;
        case Isa::avx2:
            return kAvx2Kernels;
#endif
        default:
            return kScalarKernels;
    }
}

constexpr double kHalfPi = 0x1.921fb54442d18p+0;
constexpr unsigned kTerms = 10;  // the next one is below 2^-60 at pi/4

// cos(pi/2 m/n) for 0 <= m <= n, by the series of the cosine or, above one half, of the sine of the
// complement.
double quarter_cosine(std::size_t m, std::size_t n) noexcept {
    const bool sine = 2 * m > n;
    const double x = kHalfPi * (static_cast<double>(sine ? n - m : m) / static_cast<double>(n));
    const double square = x * x;
    double t = 1;
    for (unsigned k = kTerms; k >= 1; --k) {
        const unsigned divisor = sine ? 2 * k * (2 * k + 1) : (2 * k - 1) * 2 * k;
        t = 1 - square / static_cast<double>(divisor) * t;
    }
    return sine ? x * t : t;
}

void each_batch(std::span<const float> from, std::span<float> to, std::size_t area, const Sides& sides,
                void (*run)(const Sides&, const float*, float*) noexcept) {
    if (from.size() != to.size() || from.size() % area != 0)
        throw ArgumentError("a cosine transform needs whole blocks");
    const std::size_t batch = kBlocksAtOnce * area;
    std::size_t at = 0;
    for (; at + batch <= from.size(); at += batch) run(sides, from.data() + at, to.data() + at);
    if (at == from.size()) return;
    std::array<float, kBlocksAtOnce * kMaxArea> last{};
    std::copy(from.begin() + static_cast<std::ptrdiff_t>(at), from.end(), last.begin());
    run(sides, last.data(), last.data());
    std::copy_n(last.begin(), from.size() - at, to.begin() + static_cast<std::ptrdiff_t>(at));
}

Sides sides_of(std::size_t height, std::size_t width, const std::vector<float>& rows,
               const std::vector<float>& columns) noexcept {
    return {height, width, height > 1 ? rows.data() : nullptr, width > 1 ? columns.data() : nullptr};
}

}  // namespace

std::vector<float> matrix(std::size_t n) {
    std::vector<float> entries(n * n);
    const double constant = std::sqrt(1 / static_cast<double>(n));
    const double wave = std::sqrt(2 / static_cast<double>(n));
    for (std::size_t k = 0; k < n; ++k) {
        for (std::size_t j = 0; j < n; ++j) {
            // In units of pi / 2n; a period is 4n.
            std::size_t angle = (2 * j + 1) * k % (4 * n);
            if (angle > 2 * n) angle = 4 * n - angle;
            const double cosine = angle > n ? -quarter_cosine(2 * n - angle, n) : quarter_cosine(angle, n);
            entries[k * n + j] = static_cast<float>(k == 0 ? constant : wave * cosine);
        }
    }
    return entries;
}

bool Transform::possible(std::size_t height, std::size_t width) noexcept {
    return height >= 1 && width >= 1 && height <= kMaxSide && width <= kMaxSide && height * width <= kMaxArea;
}

Transform::Transform(std::size_t height, std::size_t width) : height_(height), width_(width) {
    if (!possible(height, width))
        throw ArgumentError("sides of a cosine transform must be 1 to 64, their product at most 256");
    rows_ = matrix(height);
    columns_ = matrix(width);
}

void Transform::forward(std::span<const float> from, std::span<float> to) const {
    each_batch(from, to, area(), sides_of(height_, width_, rows_, columns_), kernels().forward);
}

void Transform::inverse(std::span<const float> from, std::span<float> to) const {
    each_batch(from, to, area(), sides_of(height_, width_, rows_, columns_), kernels().inverse);
}

}  // namespace nncodec::dct
