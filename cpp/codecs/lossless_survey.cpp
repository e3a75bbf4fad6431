#include <algorithm>
#include <array>
#include <cstring>
#include <set>

#include "base/error.hpp"
#include "codecs/code_length.hpp"
#include "codecs/lossless_encoder.hpp"

namespace nncodec::lossless {
namespace {

constexpr std::size_t kTargetChunk = std::size_t{1} << 18;  // numbers: enough to outweigh the cost of a chunk
constexpr std::size_t kSampleRuns = 64;                     // a sample is so many runs
constexpr std::size_t kSampleRun = 64;                      // of so many numbers, spread evenly
constexpr std::uint64_t kSymbolRange = 240;                 // of 254: a sample misses a little on either side

// Used symbols in a sample, of 64 at most in all: a sample misses a few.
constexpr std::uint64_t kRegisterSymbols = 52;

std::uint64_t number_at(const Plan& plan, std::size_t i) noexcept {
    std::uint64_t value = 0;
    std::memcpy(&value, plan.data.data() + i * plan.format.bytes, plan.format.bytes);
    return value;
}

std::vector<std::uint64_t> sample(const Plan& plan) {
    std::vector<std::uint64_t> numbers;
    if (plan.numbers <= kSampleRuns * kSampleRun) {
        for (std::size_t i = 0; i < plan.numbers; ++i) numbers.push_back(number_at(plan, i));
        return numbers;
    }
    for (std::size_t run = 0; run < kSampleRuns; ++run) {
        const std::size_t first = (plan.numbers - kSampleRun) / (kSampleRuns - 1) * run;
        for (std::size_t i = 0; i < kSampleRun; ++i) numbers.push_back(number_at(plan, first + i));
    }
    return numbers;
}

// Whether there are more values than `most`, which is at most 256.
bool more_than(std::span<const std::uint64_t> numbers, std::size_t most) {
    std::array<std::uint64_t, 1024> seen;
    std::array<bool, 1024> used{};
    std::size_t values = 0;
    for (const std::uint64_t number : numbers) {
        std::size_t at = number * 0x9E3779B97F4A7C15U >> 54;
        while (used[at] && seen[at] != number) at = (at + 1) % seen.size();
        if (used[at]) continue;
        used[at] = true;
        seen[at] = number;
        if (++values > most) return true;
    }
    return false;
}

// All values in ascending order, if there are at most `most`.
std::optional<std::vector<std::uint64_t>> distinct(const Plan& plan, std::span<const std::uint64_t> numbers,
                                                   std::size_t most) {
    if (more_than(numbers, most)) return std::nullopt;  // the usual case, seen after some hundred numbers
    std::set<std::uint64_t> values(numbers.begin(), numbers.end());
    std::uint64_t last = values.empty() ? 0 : *values.begin();
    for (std::size_t i = 0; i < plan.numbers; ++i) {
        const std::uint64_t value = number_at(plan, i);
        if (value == last) continue;
        last = value;
        if (values.insert(value).second && values.size() > most) return std::nullopt;
    }
    return std::vector(values.begin(), values.end());
}

// The 254 or 255 exponents that cover most of the sample start at the least one, unless the range is too
// great: then they end at the greatest finite one, for small numbers matter less often.
std::int32_t exponent_base(const NumberFormat& format, std::span<const std::uint64_t> numbers, bool sparse) {
    const std::uint64_t mask = (std::uint64_t{1} << format.exponent_bits) - 1;
    std::int32_t least = static_cast<std::int32_t>(mask);
    std::int32_t greatest = 0;
    for (const std::uint64_t number : numbers) {
        const auto exponent = static_cast<std::int32_t>(number >> format.mantissa_bits & mask);
        if (number == 0 || exponent == static_cast<std::int32_t>(mask)) continue;
        least = std::min(least, exponent);
        greatest = std::max(greatest, exponent);
    }
    if (least > greatest) return 0;
    const std::int32_t first = sparse ? 1 : 0;
    const std::int32_t room = static_cast<std::int32_t>(kSymbolRange) - first;
    return std::max(greatest - least > room ? greatest - room : least - 8, 0) - first;
}

// How many symbols an escaped map would have to escape.
std::uint64_t out_of_range(std::span<const std::uint32_t> counts) {
    std::size_t greatest = 0;
    for (std::size_t symbol = 0; symbol + 1 < counts.size(); ++symbol) {
        if (counts[symbol] != 0) greatest = symbol;
    }
    std::uint64_t escaped = counts.back();
    for (std::size_t symbol = 0; symbol + kSymbolRange < greatest; ++symbol) escaped += counts[symbol];
    return escaped;
}

// Within an octave small numbers are more frequent than great ones, the more so the farther out, so that the
// first bits of the mantissa are worth coding with the exponent: 0.05 to 0.1 bit per number of a Gaussian.
// Judged on the sample: its entropy, corrected for the number of values (Miller & Madow), and the table's
// share.
unsigned mantissa_in_symbol(const Plan& plan, std::span<const std::uint64_t> numbers) {
    // Long tensors whose raw bits are whole bytes stay so: their speed matters more. float16's are none, and
    // have few exponents: then as many bits as leave a table that vector kernels hold in registers.
    const bool is_long = plan.is_long();
    const std::uint64_t most = is_long ? kRegisterSymbols : 200;
    if (is_long && plan.format.exponent_bits != 5) return 0;
    unsigned best = 0;
    std::uint64_t least = UINT64_MAX;
    for (unsigned bits = 0; bits <= kMaxMantissaInSymbol; ++bits) {
        const unsigned shift = plan.format.mantissa_bits - bits;
        const std::uint64_t mask = (std::uint64_t{1} << (plan.format.exponent_bits + bits)) - 1;
        std::vector<std::uint32_t> counts(mask + 1);
        for (const std::uint64_t number : numbers) ++counts[number >> shift & mask];
        const auto used = static_cast<std::uint64_t>(
            std::count_if(counts.begin(), counts.end(), [](std::uint32_t count) { return count != 0; }));
        if (used > most) break;
        // Per sampled number, in 2^-kLogBits bits; log2(e) / 2 is 0.72, and a table costs about five bits a
        // symbol.
        const std::uint64_t n = numbers.size();
        const std::uint64_t correction = used * 47'000;
        const std::uint64_t table = (used * 5 << kLogBits) * n / plan.numbers;
        const std::uint64_t escapes = plan.format.exponent_bits + bits > 8 ? out_of_range(counts) * 24 : 0;
        const std::uint64_t cost = code_length<std::uint32_t>(counts) + correction + table +
                                   ((n * (8 - bits) + escapes) << kLogBits);
        if (cost < least) {
            least = cost;
            best = bits;
        }
    }
    return best;
}

}  // namespace

Plan survey(const Part& part) {
    Plan plan;
    plan.dtype = part.dtype;
    plan.format = number_format(part.dtype);
    const std::size_t element = std::size_t{plan.format.bytes} * plan.format.numbers;
    if (part.data.size() % element != 0) {
        throw ArgumentError("data has " + std::to_string(part.data.size()) + " bytes, no multiple of " +
                            std::to_string(element));
    }
    plan.data = part.data;
    plan.numbers = part.data.size() / plan.format.bytes;
    const std::size_t columns = std::clamp<std::size_t>(part.columns * plan.format.numbers, 1, kTargetChunk);
    plan.model.columns = columns / plan.format.numbers * plan.format.numbers;
    plan.chunk_numbers =
        std::max<std::size_t>((kTargetChunk + plan.model.columns / 2) / plan.model.columns, 1) *
        plan.model.columns;
    if (plan.numbers == 0) return plan;
    if (plan.format.bytes == 1) {
        plan.model.kind = Kind::bytes;
        return plan;
    }
    const std::vector<std::uint64_t> numbers = sample(plan);
    // A palette must be small against the tensor, and smaller than what the numbers' own structure would
    // give.
    if (const auto values = distinct(plan, numbers, std::min<std::size_t>(256, plan.numbers / 4))) {
        plan.model.kind = Kind::palette;
        for (const std::uint64_t value : *values) {
            const auto* const bytes = reinterpret_cast<const std::uint8_t*>(&value);
            plan.model.palette.insert(plan.model.palette.end(), bytes, bytes + plan.format.bytes);
        }
        return plan;
    }
    if (plan.format.exponent_bits == 0) {
        plan.model.kind = Kind::integers;
        return plan;
    }
    plan.model.kind = Kind::floats;
    // Below a fiftieth, the raw bits of zeros cost less than finding them.
    const auto zeros = static_cast<std::size_t>(std::count(numbers.begin(), numbers.end(), std::uint64_t{0}));
    plan.model.map.sparse = zeros * 50 > numbers.size();
    plan.model.mantissa_in_symbol = mantissa_in_symbol(plan, numbers);
    plan.format = with_mantissa_in_symbol(plan.format, plan.model.mantissa_in_symbol);
    plan.model.map.escaped = plan.model.map.sparse || plan.format.exponent_bits > 8;
    if (plan.model.map.escaped) {
        plan.model.map.base =
            plan.format.exponent_bits > 8 ? exponent_base(plan.format, numbers, plan.model.map.sparse) : -1;
    }
    return plan;
}

}  // namespace nncodec::lossless
