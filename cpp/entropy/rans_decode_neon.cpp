// rANS decoding with NEON: 16, 32 or 64 lanes, prob_bits 12, one table of at most 64 buckets per row.
//
// NEON cannot gather, but looks bytes up in up to 64 of them, held in four registers: the alias method's
// arrays, cut into bytes. 32 buckets, the usual case, leave every array in registers.
#if defined(__aarch64__)
#include <arm_neon.h>

#include "entropy/rans_kernels.hpp"

namespace nncodec::rans {
namespace {

constexpr std::size_t kGroup = 16;  // lanes that are looked up together: one register of bytes

// For each set of eight lanes: the bytes of the next eight words that each lane takes (255: none), and how
// many bytes all take together.
struct WordOrder {
    alignas(16) std::uint8_t bytes[256][16];
    std::uint8_t taken[256];
};
constexpr WordOrder kWordOrder = [] {
    WordOrder order{};
    for (unsigned set = 0; set < 256; ++set) {
        std::uint8_t next = 0;
        for (unsigned lane = 0; lane < 8; ++lane) {
            const bool takes = (set >> lane & 1) != 0;
            order.bytes[set][2 * lane] = takes ? next++ : std::uint8_t{255};
            order.bytes[set][2 * lane + 1] = takes ? next++ : std::uint8_t{255};
        }
        order.taken[set] = next;
    }
    return order;
}();

// Lanes that fell below 2^16 take the next words in ascending order. Reads 16 bytes.
inline void refill(uint32x4_t& first, uint32x4_t& second, const std::uint8_t*& words) noexcept {
    static constexpr std::uint16_t kBits[8] = {1, 2, 4, 8, 16, 32, 64, 128};
    const uint32x4_t lowest = vdupq_n_u32(kLowest);
    const uint32x4_t first_low = vcltq_u32(first, lowest);
    const uint32x4_t second_low = vcltq_u32(second, lowest);
    const uint16x8_t low = vuzp1q_u16(vreinterpretq_u16_u32(first_low), vreinterpretq_u16_u32(second_low));
    const std::size_t set = vaddvq_u16(vandq_u16(low, vld1q_u16(kBits)));
    const uint16x8_t next =
        vreinterpretq_u16_u8(vqtbl1q_u8(vld1q_u8(words), vld1q_u8(kWordOrder.bytes[set])));
    words += kWordOrder.taken[set];
    const auto shift = [](uint32x4_t state, uint32x4_t is_low) {
        return vshlq_u32(state, vreinterpretq_s32_u32(vandq_u32(is_low, vdupq_n_u32(16))));
    };
    first = vorrq_u32(shift(first, first_low), vmovl_u16(vget_low_u16(next)));
    second = vorrq_u32(shift(second, second_low), vmovl_high_u16(next));
}

// 2^kBucketBits bytes.
template <int kBucketBits>
struct ByteTable;

template <>
struct ByteTable<5> {
    uint8x16x2_t part;
    uint8x16_t operator[](uint8x16_t index) const noexcept { return vqtbl2q_u8(part, index); }
};

template <>
struct ByteTable<6> {
    uint8x16x4_t part;
    uint8x16_t operator[](uint8x16_t index) const noexcept { return vqtbl4q_u8(part, index); }
};

// Cuts an array of 16-bit elements into its low and its high bytes.
template <int kBucketBits>
inline void load(const std::uint16_t* from, ByteTable<kBucketBits>& low,
                 ByteTable<kBucketBits>& high) noexcept {
    for (int i = 0; i < 1 << (kBucketBits - 4); ++i) {
        const uint8x16x2_t halves = vld2q_u8(reinterpret_cast<const std::uint8_t*>(from + 16 * i));
        low.part.val[i] = halves.val[0];
        high.part.val[i] = halves.val[1];
    }
}

template <int kBucketBits>
struct RegisterTable {
    static constexpr int kWidthBits = 12 - kBucketBits;
    ByteTable<kBucketBits> cut, alias, shift_low, shift_high, frequency_low, frequency_high, symbol;

    explicit RegisterTable(const SmallTable& table) noexcept {
        ByteTable<kBucketBits> zero;
        load(table.bucket, alias, cut);
        load(table.shift, shift_low, shift_high);
        load(table.frequency, frequency_low, frequency_high);
        load(table.symbol, symbol, zero);
    }

    // 16 elements of 16 bits, in order.
    struct Wide {
        uint16x8_t low, high;
    };
    static Wide wide(uint8x16_t low, uint8x16_t high) noexcept {
        return {vreinterpretq_u16_u8(vzip1q_u8(low, high)), vreinterpretq_u16_u8(vzip2q_u8(low, high))};
    }

    struct Found {
        Wide frequency, place;
        uint8x16_t symbol;
    };
    // Of 16 states' low 16 bits.
    Found find(uint16x8_t first, uint16x8_t second) const noexcept {
        const uint8x16_t within = vdupq_n_u8((1U << kWidthBits) - 1);
        const uint8x16_t low =
            vandq_u8(vuzp1q_u8(vreinterpretq_u8_u16(first), vreinterpretq_u8_u16(second)), within);
        const uint8x16_t bucket =
            vandq_u8(vshrn_high_n_u16(vshrn_n_u16(first, kWidthBits), second, kWidthBits),
                     vdupq_n_u8((1U << kBucketBits) - 1));
        const uint8x16_t other = vcgeq_u8(low, cut[bucket]);
        const uint8x16_t rank = vbslq_u8(other, alias[bucket], bucket);
        const Wide shift = wide(vandq_u8(shift_low[bucket], other), vandq_u8(shift_high[bucket], other));
        const Wide place{vaddw_u8(shift.low, vget_low_u8(low)), vaddw_high_u8(shift.high, low)};
        return {wide(frequency_low[rank], frequency_high[rank]), place, symbol[rank]};
    }
};

inline uint32x4_t advance(uint32x4_t state, uint16x4_t frequency, uint16x4_t place) noexcept {
    return vmlaq_u32(vmovl_u16(place), vmovl_u16(frequency), vshrq_n_u32(state, 12));
}

template <int kBucketBits>
void decode_steps(const DecodeTask& task, const SmallTable& small, std::size_t steps,
                  DecodeProgress& progress) noexcept {
    const RegisterTable<kBucketBits> table(small);
    const std::uint8_t* words = progress.words;
    std::uint8_t* out = progress.out;
    // No step reads beyond the words that its lanes could take.
    for (; steps != 0 && static_cast<std::size_t>(progress.end - words) >= 2 * task.lanes; --steps) {
        for (std::uint32_t* at = progress.states; at != progress.states + task.lanes; at += kGroup) {
            uint32x4_t a = vld1q_u32(at);
            uint32x4_t b = vld1q_u32(at + 4);
            uint32x4_t c = vld1q_u32(at + 8);
            uint32x4_t d = vld1q_u32(at + 12);
            const auto found = table.find(vuzp1q_u16(vreinterpretq_u16_u32(a), vreinterpretq_u16_u32(b)),
                                          vuzp1q_u16(vreinterpretq_u16_u32(c), vreinterpretq_u16_u32(d)));
            vst1q_u8(out, found.symbol);
            out += kGroup;
            a = advance(a, vget_low_u16(found.frequency.low), vget_low_u16(found.place.low));
            b = advance(b, vget_high_u16(found.frequency.low), vget_high_u16(found.place.low));
            c = advance(c, vget_low_u16(found.frequency.high), vget_low_u16(found.place.high));
            d = advance(d, vget_high_u16(found.frequency.high), vget_high_u16(found.place.high));
            refill(a, b, words);
            refill(c, d, words);
            vst1q_u32(at, a);
            vst1q_u32(at + 4, b);
            vst1q_u32(at + 8, c);
            vst1q_u32(at + 12, d);
        }
    }
    progress.words = words;
    progress.column += static_cast<std::size_t>(out - progress.out);
    progress.out = out;
}

}  // namespace

void decode_row_neon(const DecodeTask& task, std::size_t row_table, std::size_t count,
                     DecodeProgress& progress) noexcept {
    const std::size_t steps = (count - progress.column) / task.lanes;
    const SmallTable& table = task.small[row_table];
    if (task.bucket_bits == 5) return decode_steps<5>(task, table, steps, progress);
    decode_steps<6>(task, table, steps, progress);
}

}  // namespace nncodec::rans
#endif
