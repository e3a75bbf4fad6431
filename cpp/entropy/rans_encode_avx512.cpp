// rANS encoding with AVX-512 (F, BW, VL, VBMI, VBMI2): 16, 32 or 64 lanes, prob_bits 12.
#if defined(__AVX512VBMI2__)
#if !defined(__clang__)
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"  // GCC 12 sees its own _mm512_undefined_* that way
#endif
#include <immintrin.h>

#include "entropy/rans_kernels.hpp"

namespace nncodec::rans {
namespace {

constexpr int kDown = _MM_FROUND_TO_ZERO | _MM_FROUND_NO_EXC;

// Lanes 0 .. count-1 of a register whose first is lane 16 * vector.
inline __mmask16 active(std::size_t count, int vector) noexcept {
    const std::size_t first = static_cast<std::size_t>(vector) * 16;
    if (count <= first) return 0;
    return static_cast<__mmask16>(count - first >= 16 ? 0xFFFF : (1U << (count - first)) - 1);
}

// Coding parameters of a step's symbols.
struct Parameters {
    __m512i frequency[4];
    __m512i place[4];  // index of the symbol's first place in the array of slots
    bool bad = false;  // a symbol that the table lacks
};

// All symbols of a row have one table, whose frequencies and starts lie in registers.
template <int kVectors>
class RowTable {
  public:
    explicit RowTable(const EncodeTask& task) noexcept : tables_(task.vectors) {
        alignas(64) std::uint8_t order[2][64] = {};
        for (int v = 0; v < kVectors; ++v) {
            for (int i = 0; i < 16; ++i) {
                order[v / 2][4 * i + 2 * (v % 2)] = static_cast<std::uint8_t>(16 * v + i);
            }
        }
        for (int pair = 0; pair < 2; ++pair) order_[pair] = _mm512_load_si512(order[pair]);
    }

    void select_row(std::size_t table) noexcept {
        const EncodeVectors& t = tables_[table];
        for (int i = 0; i < 2; ++i) {
            frequency_[i] = _mm512_load_si512(t.frequency + 32 * i);
            start_[i] = _mm512_load_si512(t.start + 32 * i);
        }
        for (int i = 0; i < 4; ++i) rank_[i] = _mm512_load_si512(t.rank + 64 * i);
        base_ = _mm512_set1_epi32(static_cast<int>(table << 12));
    }

    // Elements 2i and 2i + 1 of a vector of 16-bit numbers serve element i of two registers.
    Parameters find(const std::uint8_t* symbols, std::size_t count, std::size_t /*column*/) const noexcept {
        const std::uint64_t bytes = count >= 64 ? ~std::uint64_t{0} : (std::uint64_t{1} << count) - 1;
        const __m512i loaded = _mm512_maskz_loadu_epi8(bytes, symbols);
        const __m512i ranks = _mm512_mask_blend_epi8(_mm512_movepi8_mask(loaded),
                                                     _mm512_permutex2var_epi8(rank_[0], loaded, rank_[1]),
                                                     _mm512_permutex2var_epi8(rank_[2], loaded, rank_[3]));
        Parameters result;
        for (int pair = 0; pair < (kVectors + 1) / 2; ++pair) {
            const __m512i index = _mm512_maskz_permutexvar_epi8(0x5555555555555555, order_[pair], ranks);
            const __m512i frequency = _mm512_permutex2var_epi16(frequency_[0], index, frequency_[1]);
            const __m512i start = _mm512_permutex2var_epi16(start_[0], index, start_[1]);
            for (int half = 0; half < 2 && 2 * pair + half < kVectors; ++half) {
                const int v = 2 * pair + half;
                const __m512i low = _mm512_set1_epi32(0xFFFF);
                result.frequency[v] =
                    half == 0 ? _mm512_and_si512(frequency, low) : _mm512_srli_epi32(frequency, 16);
                result.place[v] = _mm512_add_epi32(
                    base_, half == 0 ? _mm512_and_si512(start, low) : _mm512_srli_epi32(start, 16));
                const __mmask16 lanes = active(count, v);
                result.bad |=
                    _mm512_mask_testn_epi32_mask(lanes, result.frequency[v], result.frequency[v]) != 0;
            }
        }
        return result;
    }

  private:
    const EncodeVectors* tables_;
    __m512i order_[2], rank_[4], frequency_[2], start_[2], base_;
};

// A table per symbol, or more symbols than registers hold: gathers.
template <int kVectors>
class AnyTable {
  public:
    explicit AnyTable(const EncodeTask& task) noexcept
        : packed_(task.packed), columns_(task.column_context) {}

    void select_row(std::size_t table) noexcept { row_ = _mm512_set1_epi32(static_cast<int>(table)); }

    Parameters find(const std::uint8_t* symbols, std::size_t count, std::size_t column) const noexcept {
        Parameters result;
        for (int v = 0; v < kVectors; ++v) {
            const __mmask16 lanes = active(count, v);
            const __m512i symbol = load(symbols, lanes, v);
            __m512i table = row_;
            if (columns_ != nullptr) table = _mm512_add_epi32(table, load(columns_ + column, lanes, v));
            const __m512i index = _mm512_add_epi32(_mm512_slli_epi32(table, 8), symbol);
            const __m512i entry = _mm512_i32gather_epi32(index, packed_, 4);
            result.frequency[v] = _mm512_and_si512(entry, _mm512_set1_epi32(0xFFFF));
            result.place[v] = _mm512_add_epi32(_mm512_slli_epi32(table, 12), _mm512_srli_epi32(entry, 16));
            result.bad |= _mm512_mask_testn_epi32_mask(lanes, result.frequency[v], result.frequency[v]) != 0;
        }
        return result;
    }

  private:
    static __m512i load(const std::uint8_t* bytes, __mmask16 lanes, int vector) noexcept {
        return _mm512_cvtepu8_epi32(_mm_maskz_loadu_epi8(lanes, bytes + 16 * vector));
    }

    const std::uint32_t* packed_;
    const std::uint8_t* columns_;
    __m512i row_;
};

template <int kVectors, typename Tables>
bool encode_rows(const EncodeTask& task, EncodeProgress& progress) noexcept {
    constexpr std::size_t kLanes = 16 * kVectors;
    Tables tables(task);
    __m512i state[kVectors];
    for (int v = 0; v < kVectors; ++v) state[v] = _mm512_set1_epi32(static_cast<int>(kLowest));
    std::uint16_t* words = progress.words;

    const std::size_t rows = (task.n + task.columns - 1) / task.columns;
    for (std::size_t row = rows; row-- > 0;) {
        tables.select_row(task.row_context == nullptr ? 0 : task.row_context[row]);
        const std::uint8_t* const from = task.symbols + row * task.columns;
        const std::size_t left = task.n - row * task.columns;
        std::size_t end = left < task.columns ? left : task.columns;
        while (end != 0) {
            const std::size_t column = (end - 1) / kLanes * kLanes;
            const std::size_t count = end - column;
            const Parameters p = tables.find(from + column, count, column);
            if (p.bad) return false;
            for (int v = kVectors; v-- > 0;) {
                const __mmask16 lanes = active(count, v);
                const __m512i f = p.frequency[v];
                const __mmask16 full =
                    _mm512_mask_cmpge_epu32_mask(lanes, _mm512_srli_epi32(state[v], 20), f);
                const __m256i pushed = _mm512_cvtepi32_epi16(_mm512_maskz_compress_epi32(full, state[v]));
                const int n = __builtin_popcount(full);
                words -= n;
                _mm256_mask_storeu_epi16(words, static_cast<__mmask16>((1U << n) - 1), pushed);
                const __m512i x = _mm512_mask_srli_epi32(state[v], full, state[v], 16);

                // The quotient is below 2^20. Rounded down twice at 24 bits it is right or one too small.
                const __m512 x_float = _mm512_cvt_roundepu32_ps(x, kDown);
                const __m512 ratio = _mm512_div_round_ps(x_float, _mm512_cvtepi32_ps(f), kDown);
                __m512i quotient = _mm512_cvttps_epu32(ratio);
                __m512i rest = _mm512_sub_epi32(x, _mm512_mullo_epi32(quotient, f));
                const __mmask16 over = _mm512_cmpge_epu32_mask(rest, f);
                quotient = _mm512_mask_add_epi32(quotient, over, quotient, _mm512_set1_epi32(1));
                rest = _mm512_mask_sub_epi32(rest, over, rest, f);

                const __m512i index = _mm512_maskz_add_epi32(lanes, p.place[v], rest);
                const __m512i slot =
                    _mm512_and_si512(_mm512_i32gather_epi32(index, task.slots, 2), _mm512_set1_epi32(0xFFFF));
                state[v] = _mm512_mask_add_epi32(state[v], lanes, _mm512_slli_epi32(quotient, 12), slot);
            }
            end = column;
        }
    }

    for (int v = 0; v < kVectors; ++v) _mm512_store_si512(progress.states + 16 * v, state[v]);
    progress.words = words;
    return true;
}

template <int kVectors>
bool encode_lanes(const EncodeTask& task, EncodeProgress& progress) noexcept {
    if (task.vectors == nullptr || task.column_context != nullptr) {
        return encode_rows<kVectors, AnyTable<kVectors>>(task, progress);
    }
    return encode_rows<kVectors, RowTable<kVectors>>(task, progress);
}

}  // namespace

bool encode_avx512(const EncodeTask& task, EncodeProgress& progress) noexcept {
    if (task.lanes == 64) return encode_lanes<4>(task, progress);
    if (task.lanes == 32) return encode_lanes<2>(task, progress);
    return encode_lanes<1>(task, progress);
}

}  // namespace nncodec::rans
#endif
