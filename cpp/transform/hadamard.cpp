#include "transform/hadamard.hpp"

#include <bit>
#include <cmath>

#include "base/error.hpp"

namespace nncodec::hadamard {

bool possible(std::size_t length) noexcept {
    return length >= 2 && length <= kMaxLength && std::has_single_bit(length);
}

void transform(std::span<float> numbers, std::size_t length) {
    if (!possible(length) || numbers.size() % length != 0)
        throw ArgumentError("a Hadamard transform needs whole runs of 2, 4 ... 64 numbers");
    const auto scale = static_cast<float>(std::sqrt(1 / static_cast<double>(length)));
    for (std::size_t at = 0; at < numbers.size(); at += length) {
        float* const run = numbers.data() + at;
        for (std::size_t half = 1; half < length; half *= 2) {
            for (std::size_t first = 0; first < length; first += 2 * half) {
                for (std::size_t i = first; i < first + half; ++i) {
                    const float a = run[i];
                    const float b = run[i + half];
                    run[i] = a + b;
                    run[i + half] = a - b;
                }
            }
        }
        for (std::size_t i = 0; i < length; ++i) run[i] *= scale;
    }
}

}  // namespace nncodec::hadamard
