#include "entropy/logistic.hpp"

#include <algorithm>

namespace nncodec::range {
namespace {

constexpr LogisticTables make_tables() {
    LogisticTables tables{};
    constexpr std::uint64_t kOne = std::uint64_t{1} << 40;
    constexpr std::uint64_t kFactor = 16711808;  // exp(-1/256) in units of 2^-24
    std::uint64_t exponential = kOne;            // exp(-x/256) in units of 2^-40
    for (int x = 0; x <= kMaxStretch; ++x) {
        const std::uint64_t sum = kOne + exponential;
        const std::uint64_t p = std::min<std::uint64_t>(((kOne << 16) + sum / 2) / sum, 65535);
        tables.squash[kMaxStretch + x] = static_cast<std::uint16_t>(p);
        tables.squash[kMaxStretch - x] = static_cast<std::uint16_t>(65536 - p);
        exponential = (exponential * kFactor + (1U << 23)) >> 24;
    }
    // For each upper-half slot, the least x that squashes to its middle or more; the lower half is its mirror
    // image.
    int x = 0;
    for (int slot = 2048; slot < 4096; ++slot) {
        while (tables.squash[kMaxStretch + x] < 16 * slot + 8) ++x;
        tables.stretch[slot] = static_cast<std::int16_t>(x);
        tables.stretch[4095 - slot] = static_cast<std::int16_t>(-x);
    }
    return tables;
}

}  // namespace

constinit const LogisticTables kLogistic = make_tables();

}  // namespace nncodec::range
