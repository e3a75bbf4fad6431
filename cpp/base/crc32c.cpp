#include "base/crc32c.hpp"

#include <array>

#include "base/crc32c_kernels.hpp"
#include "base/dispatch.hpp"

// SSE4.2 belongs to the x86-64-v2 baseline. ARMv8.0 leaves the instructions out, so that the function that
// uses them is compiled for a later level and called where the machine has them.
#if defined(__SSE4_2__)
#include <nmmintrin.h>
#define NNCODEC_CRC_TARGET
#elif defined(__ARM_FEATURE_CRC32)
#define NNCODEC_CRC_TARGET
#elif defined(__aarch64__) && defined(__linux__)
#include <asm/hwcap.h>
#include <sys/auxv.h>
#if defined(__clang__)
#define NNCODEC_CRC_TARGET __attribute__((target("crc")))
#else
#define NNCODEC_CRC_TARGET __attribute__((target("+crc")))
#endif
#endif

namespace nncodec {
namespace {

using Table = std::array<std::array<std::uint32_t, 256>, 8>;

// table[k][b] advances byte b over k further zero bytes ("slicing by eight").
constexpr Table make_table() {
    Table table{};
    for (std::uint32_t b = 0; b < 256; ++b) {
        std::uint32_t crc = b;
        for (int i = 0; i < 8; ++i) crc = (crc >> 1) ^ ((crc & 1) ? kCrcPolynomial : 0);
        table[0][b] = crc;
    }
    for (std::size_t k = 1; k < 8; ++k) {
        for (std::size_t b = 0; b < 256; ++b) {
            table[k][b] = (table[k - 1][b] >> 8) ^ table[0][table[k - 1][b] & 0xFF];
        }
    }
    return table;
}
constexpr Table kTable = make_table();

std::uint32_t crc_portable(const std::uint8_t* p, std::size_t n, std::uint32_t crc) noexcept {
    for (; n >= 8; p += 8, n -= 8) {
        const std::uint64_t x = load_le<std::uint64_t>(p) ^ crc;
        crc = kTable[7][x & 0xFF] ^ kTable[6][(x >> 8) & 0xFF] ^ kTable[5][(x >> 16) & 0xFF] ^
              kTable[4][(x >> 24) & 0xFF] ^ kTable[3][(x >> 32) & 0xFF] ^ kTable[2][(x >> 40) & 0xFF] ^
              kTable[1][(x >> 48) & 0xFF] ^ kTable[0][x >> 56];
    }
    for (; n != 0; ++p, --n) crc = (crc >> 8) ^ kTable[0][(crc ^ *p) & 0xFF];
    return crc;
}

#if defined(NNCODEC_CRC_TARGET)

bool have_instruction() noexcept {
#if defined(__SSE4_2__) || defined(__ARM_FEATURE_CRC32)
    return true;
#else
    static const bool found = (getauxval(AT_HWCAP) & HWCAP_CRC32) != 0;
    return found;
#endif
}

NNCODEC_CRC_TARGET inline std::uint64_t step(std::uint64_t crc, std::uint64_t word) noexcept {
#if defined(__SSE4_2__)
    return _mm_crc32_u64(crc, word);
#elif defined(__clang__)
    return __builtin_arm_crc32cd(static_cast<std::uint32_t>(crc), word);
#else
    return __builtin_aarch64_crc32cx(static_cast<std::uint32_t>(crc), word);
#endif
}

// The instruction takes three cycles but one starts every cycle, so three streams of kStride bytes run side
// by side; their CRCs are joined by advancing each over the zero bytes that stand for its successor. CRCs are
// linear, so "advance over kStride zero bytes" is a table look-up per byte of the CRC.
constexpr std::size_t kStride = 1024;

using Advance = std::array<std::array<std::uint32_t, 256>, 4>;

const Advance& advance_table() noexcept {
    static const Advance table = [] {
        const std::array<std::uint8_t, kStride> zeros{};
        Advance result{};
        for (std::uint32_t byte = 0; byte < 4; ++byte) {
            for (std::uint32_t b = 0; b < 256; ++b) {
                result[byte][b] = crc_portable(zeros.data(), kStride, b << (8 * byte));
            }
        }
        return result;
    }();
    return table;
}

inline std::uint32_t advance(const Advance& table, std::uint32_t crc) noexcept {
    return table[0][crc & 0xFF] ^ table[1][(crc >> 8) & 0xFF] ^ table[2][(crc >> 16) & 0xFF] ^
           table[3][crc >> 24];
}

NNCODEC_CRC_TARGET std::uint32_t crc_hardware(const std::uint8_t* p, std::size_t n,
                                              std::uint32_t start) noexcept {
    std::uint32_t crc = start;
    if (n >= 3 * kStride) {
        const Advance& table = advance_table();
        for (; n >= 3 * kStride; p += 3 * kStride, n -= 3 * kStride) {
            std::uint64_t a = crc;
            std::uint64_t b = 0;
            std::uint64_t c = 0;
            for (std::size_t i = 0; i < kStride; i += 8) {
                a = step(a, load_le<std::uint64_t>(p + i));
                b = step(b, load_le<std::uint64_t>(p + kStride + i));
                c = step(c, load_le<std::uint64_t>(p + 2 * kStride + i));
            }
            crc = advance(table, static_cast<std::uint32_t>(a)) ^ static_cast<std::uint32_t>(b);
            crc = advance(table, crc) ^ static_cast<std::uint32_t>(c);
        }
    }
    std::uint64_t tail = crc;
    for (; n >= 8; p += 8, n -= 8) tail = step(tail, load_le<std::uint64_t>(p));
    return crc_portable(p, n, static_cast<std::uint32_t>(tail));
}

#endif

}  // namespace

std::uint32_t crc32c(ByteView data, std::uint32_t seed) noexcept {
#if defined(NNCODEC_CRC_TARGET)
    // Forcing "scalar" takes the table, so that tests compare the two.
    const Isa isa = active_isa();
    if (isa != Isa::scalar && have_instruction()) {
        std::uint32_t crc = ~seed;
        std::size_t done = 0;
#if defined(__x86_64__)
        if (isa == Isa::avx512 && data.size() >= 256) {
            crc = crc_fold_avx512(data.data(), data.size(), crc);
            done = data.size() / 64 * 64;
        }
#endif
        return ~crc_hardware(data.data() + done, data.size() - done, crc);
    }
#endif
    return ~crc_portable(data.data(), data.size(), ~seed);
}

}  // namespace nncodec
