#include <algorithm>
#include <cstring>
#include <unordered_map>
#include <utility>

#include "base/scratch.hpp"
#include "codecs/lossless_encoder.hpp"
#include "codecs/lossless_rows.hpp"

#if defined(__x86_64__)
#include <emmintrin.h>
#endif

namespace nncodec::lossless {
namespace {

constexpr std::size_t kManyRows = 64;  // in a chunk; then every kStride-th is counted
constexpr std::size_t kStride = 4;
constexpr std::uint8_t kLeastZeros = 4;  // fewer zero bits come about by chance in short rows

// How a symbol counts towards the scale of its row: its magnitude, if only the last `reach` below the
// greatest are looked at (zeros and other outliers below say nothing about the rest), in steps of 1 /
// `steps`.
struct Scale {
    std::array<std::uint8_t, 256> magnitude{};
    bool identity = true;
    std::uint8_t reach = 255;
    unsigned steps = 1;
};

Scale scale_of(const Plan& plan) {
    Scale scale;
    for (std::size_t s = 0; s < 256; ++s) scale.magnitude[s] = static_cast<std::uint8_t>(s);
    if (plan.model.kind == Kind::floats) {
        scale.reach = static_cast<std::uint8_t>(8U << plan.model.mantissa_in_symbol);
        scale.steps = 8U >> plan.model.mantissa_in_symbol;
        return scale;
    }
    switch (static_cast<DType>(plan.dtype)) {
        case DType::float8_e4m3fn:
        case DType::float8_e5m2:
        case DType::float8_e4m3fnuz:
        case DType::float8_e5m2fnuz:
            scale.identity = false;
            for (std::size_t s = 128; s < 256; ++s) scale.magnitude[s] = static_cast<std::uint8_t>(s - 128);
            break;
        case DType::int8:
            scale.identity = false;
            for (std::size_t s = 128; s < 256; ++s) scale.magnitude[s] = static_cast<std::uint8_t>(256 - s);
            break;
        default:
            break;
    }
    return scale;
}

struct Range {
    std::uint8_t least = 255;
    std::uint8_t greatest = 0;
};

Range range_of(std::span<const std::uint8_t> symbols) noexcept {
    Range range;
    std::size_t i = 0;
#if defined(__x86_64__)
    __m128i least = _mm_set1_epi8(-1);
    __m128i greatest = _mm_setzero_si128();
    for (; i + 16 <= symbols.size(); i += 16) {
        const __m128i x = _mm_loadu_si128(reinterpret_cast<const __m128i*>(symbols.data() + i));
        least = _mm_min_epu8(least, x);
        greatest = _mm_max_epu8(greatest, x);
    }
    std::array<std::uint8_t, 16> lows;
    std::array<std::uint8_t, 16> highs;
    _mm_storeu_si128(reinterpret_cast<__m128i*>(lows.data()), least);
    _mm_storeu_si128(reinterpret_cast<__m128i*>(highs.data()), greatest);
    range.least = *std::min_element(lows.begin(), lows.end());
    range.greatest = *std::max_element(highs.begin(), highs.end());
#endif
    for (; i < symbols.size(); ++i) {
        range.least = std::min(range.least, symbols[i]);
        range.greatest = std::max(range.greatest, symbols[i]);
    }
    return range;
}

// steps * mean of max(symbol, greatest - reach).
std::uint16_t level_of(std::span<const std::uint8_t> symbols, const Scale& scale,
                       std::uint8_t greatest) noexcept {
    const auto floor = static_cast<std::uint8_t>(greatest > scale.reach ? greatest - scale.reach : 0);
    std::uint64_t sum = 0;
    std::size_t i = 0;
#if defined(__x86_64__)
    __m128i sums = _mm_setzero_si128();
    const __m128i floors = _mm_set1_epi8(static_cast<char>(floor));
    for (; i + 16 <= symbols.size(); i += 16) {
        const __m128i x = _mm_loadu_si128(reinterpret_cast<const __m128i*>(symbols.data() + i));
        sums = _mm_add_epi64(sums, _mm_sad_epu8(_mm_max_epu8(x, floors), _mm_setzero_si128()));
    }
    sum = static_cast<std::uint64_t>(_mm_cvtsi128_si64(sums)) +
          static_cast<std::uint64_t>(_mm_cvtsi128_si64(_mm_unpackhi_epi64(sums, sums)));
#endif
    for (; i < symbols.size(); ++i) sum += std::max(symbols[i], floor);
    return static_cast<std::uint16_t>((sum * scale.steps + symbols.size() / 2) / symbols.size());
}

// Counts a row's symbols into `counts`. Four sets of counters, for equal neighbours would wait for each
// other; they are cleared over the range that was used.
class RowCounter {
  public:
    void count(std::span<const std::uint8_t> row, Range range, std::uint64_t weight,
               std::span<std::uint64_t> counts) noexcept {
        std::size_t i = 0;
        for (; i + 8 <= row.size(); i += 8) {
            const auto eight = load_le<std::uint64_t>(row.data() + i);
            ++sets_[0][eight & 0xFF];
            ++sets_[1][eight >> 8 & 0xFF];
            ++sets_[2][eight >> 16 & 0xFF];
            ++sets_[3][eight >> 24 & 0xFF];
            ++sets_[0][eight >> 32 & 0xFF];
            ++sets_[1][eight >> 40 & 0xFF];
            ++sets_[2][eight >> 48 & 0xFF];
            ++sets_[3][eight >> 56];
        }
        for (; i < row.size(); ++i) ++sets_[0][row[i]];
        for (std::size_t s = range.least; s <= range.greatest; ++s) {
            for (auto& set : sets_) counts[s] += weight * std::exchange(set[s], 0);
        }
    }

  private:
    std::array<std::array<std::uint32_t, 256>, 4> sets_{};
};

// Most rows have no unused bits: their bins are found by their level.
class BinFinder {
  public:
    BinFinder(std::map<BinKey, Bin>& bins, std::size_t column_classes)
        : bins_(bins), column_classes_(column_classes) {}

    Bin& find(const BinKey& key) {
        const bool usual = key.zeros == 0 && !key.plus && key.level < by_level_.size();
        if (usual && by_level_[key.level] != nullptr) return *by_level_[key.level];
        Bin& bin = bins_.try_emplace(key, column_classes_).first->second;
        if (usual) by_level_[key.level] = &bin;
        return bin;
    }

  private:
    std::map<BinKey, Bin>& bins_;
    std::size_t column_classes_;
    std::array<Bin*, 2048> by_level_{};
};

BinKey key_of(const Plan& plan, std::uint64_t any, std::uint16_t level) noexcept {
    BinKey key;
    key.level = level;
    if (plan.model.kind != Kind::floats) return key;
    if (any == 0) {  // +0 throughout: all bits are unused, but a sparse layout stores none of them anyway
        if (plan.model.map.sparse) return key;
        key.zeros = static_cast<std::uint8_t>(plan.format.mantissa_bits);
        key.plus = true;
        return key;
    }
    const auto zeros = std::min(static_cast<unsigned>(std::countr_zero(any)), plan.format.mantissa_bits);
    key.zeros = zeros < kLeastZeros ? std::uint8_t{0} : static_cast<std::uint8_t>(zeros);
    key.plus = any >> (plan.format.mantissa_bits + plan.format.exponent_bits) == 0;
    return key;
}

std::uint64_t palette_symbols(const Plan& plan, ByteView chunk, std::span<std::uint8_t> symbols) {
    std::unordered_map<std::uint64_t, std::uint8_t> place;
    const std::size_t size = plan.format.bytes;
    for (std::size_t i = 0; i < plan.model.palette.size() / size; ++i) {
        std::uint64_t value = 0;
        std::memcpy(&value, plan.model.palette.data() + i * size, size);
        place[value] = static_cast<std::uint8_t>(i);
    }
    std::uint64_t last = 0;
    std::memcpy(&last, chunk.data(), size);
    std::uint8_t symbol = place.at(last);
    for (std::size_t i = 0; i < symbols.size(); ++i) {
        std::uint64_t value = 0;
        std::memcpy(&value, chunk.data() + i * size, size);
        if (value != last) {
            last = value;
            symbol = place.at(value);
        }
        symbols[i] = symbol;
    }
    return 0;
}

}  // namespace

std::uint64_t make_symbols(const Plan& plan, ByteView chunk, std::span<std::uint8_t> symbols) {
    switch (plan.model.kind) {
        case Kind::floats:
            return planes::symbols_of(plan.format, plan.model.map, chunk.data(), symbols.size(),
                                      symbols.data());
        case Kind::palette:
            return palette_symbols(plan, chunk, symbols);
        case Kind::bytes:
            std::memcpy(symbols.data(), chunk.data(), chunk.size());
            return 0;
        case Kind::raw:
        case Kind::integers:
            break;
    }
    return 0;
}

void PartStatistics::add(std::size_t chunk, ChunkStatistics&& one) {
    any |= one.any;
    for (const auto& [key, bin] : one.bins)
        bins.try_emplace(key, bin.counts.size() / 256).first->second.add(bin);
    rows[chunk] = std::move(one.rows);
}

ChunkStatistics gather(const Plan& plan, ByteView chunk) {
    thread_local Scratch row_scratch;
    thread_local Scratch magnitude_scratch;
    ChunkStatistics result;
    RowCounter counter;
    BinFinder bins(result.bins, plan.model.column_classes);
    const Scale scale = scale_of(plan);
    const std::size_t row_bytes = plan.model.columns * plan.format.bytes;
    const std::size_t rows = (chunk.size() + row_bytes - 1) / row_bytes;
    // Of a long tensor that has many rows some are counted for all; choose_model() knows how to go on.
    const std::size_t stride = plan.is_long() && rows >= kManyRows ? kStride : 1;
    std::size_t number = 0;
    result.rows.reserve(rows);
    for (std::size_t at = 0; at < chunk.size(); at += row_bytes) {
        const ByteView row = chunk.subspan(at, std::min(row_bytes, chunk.size() - at));
        const std::span<std::uint8_t> symbols = row_scratch.get(row.size() / plan.format.bytes);
        const std::uint64_t any = make_symbols(plan, row, symbols);
        result.any |= any;
        std::span<const std::uint8_t> magnitudes = symbols;
        if (!scale.identity) {
            const std::span<std::uint8_t> mapped = magnitude_scratch.get(symbols.size());
            for (std::size_t i = 0; i < symbols.size(); ++i) mapped[i] = scale.magnitude[symbols[i]];
            magnitudes = mapped;
        }
        const Range range = range_of(symbols);
        const std::uint8_t greatest = scale.identity ? range.greatest : range_of(magnitudes).greatest;
        const BinKey key = key_of(plan, any, level_of(magnitudes, scale, greatest));
        Bin& bin = bins.find(key);
        ++bin.rows;
        bin.numbers += symbols.size();
        result.rows.push_back(key);
        const bool chosen = number++ % stride == 0;
        if (plan.model.column_class.empty()) {
            if (chosen || bin.counts[range.least] == 0 || bin.counts[range.greatest] == 0)
                counter.count(symbols, range, chosen ? stride : 1, bin.counts);
        } else {
            for (std::size_t i = 0; i < symbols.size(); ++i)
                ++bin.counts[std::size_t{plan.model.column_class[i]} << 8 | symbols[i]];
        }
    }
    return result;
}

}  // namespace nncodec::lossless
