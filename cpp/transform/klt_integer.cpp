#include "transform/klt_integer.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>

#include "base/dispatch.hpp"
#include "base/error.hpp"
#include "transform/klt_integer_kernels.hpp"

namespace nncodec::klt {
namespace {

void multiply(const IntegerTask& task) noexcept {
#if defined(__x86_64__)
    switch (active_isa()) {
        case Isa::avx512:
            return multiply_integers_avx512(task);
        case Isa::avx2:
            return multiply_integers_avx2(task);
        default:
            break;
    }
#endif
    multiply_integers_scalar(task);
}

}  // namespace

void multiply_integers_scalar(const IntegerTask& task) noexcept {
    for (std::size_t first = 0; first < task.n; first += kIntegerStrip) {
        const std::int16_t* const strip = task.entries + integer_entry_at(0, first, task.pairs);
        const std::size_t width = std::min(kIntegerStrip, task.n - first);
        for (std::size_t r = 0; r < task.rows; ++r) {
            const std::int16_t* const row = task.in + r * task.n;
            std::array<std::uint32_t, kIntegerStrip> sum{};
            for (std::size_t p = 0; p < task.pairs; ++p) {
                const std::int16_t* const entries = strip + 2 * p * kIntegerStrip;
                const int a = row[2 * p];
                const int b = row[2 * p + 1];
                for (std::size_t j = 0; j < kIntegerStrip; ++j) {
                    sum[j] += static_cast<std::uint32_t>(a * entries[2 * j]) +
                              static_cast<std::uint32_t>(b * entries[2 * j + 1]);
                }
            }
            float* const to = task.out + r * task.n + first;
            for (std::size_t j = 0; j < width; ++j)
                to[j] = static_cast<float>(static_cast<std::int32_t>(sum[j])) * task.unit;
        }
    }
}

IntegerBasis::IntegerBasis(const Basis& basis)
    : n_(basis.columns()),
      pairs_((n_ + 1) / 2),
      entries_((n_ + kIntegerStrip - 1) / kIntegerStrip * kIntegerStrip * pairs_ * 2) {
    for (std::size_t k = 0; k < n_; ++k) {
        for (std::size_t j = 0; j < n_; ++j) {
            const float scaled = basis.at(k, j) * static_cast<float>(1 << kBasisBits);
            entries_[integer_entry_at(k, j, pairs_)] = static_cast<std::int16_t>(std::nearbyint(scaled));
        }
    }
}

void IntegerBasis::inverse(std::span<const std::int16_t> coefficients, float unit,
                           std::span<float> numbers) const {
    if (coefficients.size() != numbers.size() || coefficients.size() % n_ != 0)
        throw ArgumentError("coefficients and numbers must be whole rows, as many");
    const std::size_t rows = coefficients.size() / n_;
    IntegerTask task{coefficients.data(), 0, n_, pairs_, entries_.data(), unit, numbers.data()};
    // The last rows go through a copy: the kernel takes so many rows, and may read beyond them.
    task.rows = rows <= kIntegerRows ? 0 : (rows - 1) / kIntegerRows * kIntegerRows;
    if (task.rows != 0) multiply(task);
    const std::size_t done = task.rows * n_;
    const std::size_t left = coefficients.size() - done;
    if (left == 0) return;
    thread_local std::vector<std::int16_t> in;
    thread_local std::vector<float> out;
    in.assign(kIntegerRows * n_ + 1, 0);
    out.resize(kIntegerRows * n_);
    std::copy_n(coefficients.data() + done, left, in.begin());
    task.rows = kIntegerRows;
    task.in = in.data();
    task.out = out.data();
    multiply(task);
    std::copy_n(out.begin(), left, numbers.data() + done);
}

}  // namespace nncodec::klt
