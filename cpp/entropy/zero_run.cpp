#include "entropy/zero_run.hpp"

#include <array>
#include <bit>
#include <cstring>

#include "base/bytes.hpp"

#if defined(__x86_64__)
#include <emmintrin.h>
#elif defined(__aarch64__)
#include <arm_neon.h>
#endif

namespace nncodec::zero_run {
namespace {

constexpr std::size_t kWord = 64;

// Bit i is set where byte i is not zero's.
inline std::uint64_t other_bytes(const std::uint8_t* at) noexcept {
#if defined(__x86_64__)
    const __m128i zero = _mm_set1_epi8(static_cast<char>(kZero));
    std::uint64_t zeros = 0;
    for (unsigned part = 0; part < 4; ++part) {
        const __m128i bytes = _mm_loadu_si128(reinterpret_cast<const __m128i*>(at + 16 * part));
        const auto equal = static_cast<unsigned>(_mm_movemask_epi8(_mm_cmpeq_epi8(bytes, zero)));
        zeros |= std::uint64_t{equal} << (16 * part);
    }
    return ~zeros;
#elif defined(__aarch64__)
    static constexpr std::uint8_t kBits[16] = {1, 2, 4, 8, 16, 32, 64, 128, 1, 2, 4, 8, 16, 32, 64, 128};
    const uint8x16_t bits = vld1q_u8(kBits);
    uint8x16_t part[4];
    for (unsigned p = 0; p < 4; ++p) {
        part[p] = vandq_u8(vmvnq_u8(vceqq_u8(vld1q_u8(at + 16 * p), vdupq_n_u8(kZero))), bits);
    }
    const uint8x16_t sum = vpaddq_u8(vpaddq_u8(part[0], part[1]), vpaddq_u8(part[2], part[3]));
    return vgetq_lane_u64(vreinterpretq_u64_u8(vpaddq_u8(sum, sum)), 0);
#else
    std::uint64_t others = 0;
    for (unsigned i = 0; i < kWord; ++i) others |= std::uint64_t{at[i] != kZero} << i;
    return others;
#endif
}

// A run of any length, in as few bytes as there are.
inline std::uint8_t* write_run(std::size_t length, std::uint8_t* out) noexcept {
    for (; length >= kLongestRun; length -= kLongestRun) *out++ = 255;
    if (length == 0) return out;
    *out++ = length < kShortestRun ? kZero : static_cast<std::uint8_t>(kFirstRun + (length - kShortestRun));
    return out;
}

struct Lengths {
    std::array<std::uint8_t, 256> of;
};
constexpr Lengths make_lengths() noexcept {
    Lengths lengths{};
    for (unsigned b = 0; b < 256; ++b) {
        lengths.of[b] = static_cast<std::uint8_t>(b < kFirstRun ? 1 : b - kFirstRun + kShortestRun);
    }
    return lengths;
}
constexpr Lengths kLengths = make_lengths();

}  // namespace

std::size_t encode(std::span<const std::uint8_t> in, std::uint8_t* out) noexcept {
    const std::uint8_t* const from = in.data();
    std::uint8_t* const start = out;
    std::size_t run = 0;  // zeros that are not written yet
    std::size_t at = 0;
    for (; at + kWord <= in.size(); at += kWord) {
        std::uint64_t others = other_bytes(from + at);
        std::size_t done = 0;  // bytes of this word that are written or counted
        while (others != 0) {
            const auto next = static_cast<std::size_t>(std::countr_zero(others));
            run += next - done;
            if (run != 0) {
                out = write_run(run, out);
                run = 0;
            }
            *out++ = from[at + next];
            done = next + 1;
            others &= others - 1;
        }
        run += kWord - done;
    }
    for (; at < in.size(); ++at) {
        if (from[at] == kZero) {
            ++run;
            continue;
        }
        out = write_run(run, out);
        run = 0;
        *out++ = from[at];
    }
    return static_cast<std::size_t>(write_run(run, out) - start);
}

Status decode(std::span<const std::uint8_t> in, std::span<std::uint8_t> out) noexcept {
    std::uint8_t* to = out.data();
    const std::uint8_t* const end = to + out.size();
    std::uint64_t zeros = 0;
    std::memset(&zeros, kZero, sizeof zeros);
    static_assert(kSlack >= 2 * sizeof zeros && kLongestRun <= 2 * sizeof zeros);
    for (const std::uint8_t byte : in) {
        // No branch on the byte: sixteen zeros, the first of which is the byte itself if that stands alone.
        if (to >= end) return Status::corrupt;
        store_le(to, zeros);
        store_le(to + sizeof zeros, zeros);
        *to = byte < kFirstRun ? byte : kZero;
        to += kLengths.of[byte];
    }
    if (to > end) return Status::corrupt;
    return to == end ? Status::ok : Status::truncated;
}

}  // namespace nncodec::zero_run
