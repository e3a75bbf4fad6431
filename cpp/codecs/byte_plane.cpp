#include "codecs/byte_plane.hpp"

#include <algorithm>
#include <array>
#include <bit>
#include <string>
#include <utility>

#include "codecs/code_length.hpp"
#include "entropy/adaptive_bytes.hpp"
#include "entropy/rans.hpp"

namespace nncodec {
namespace {

enum Mode : std::uint8_t { kRaw = 0, kConstant = 1, kRans = 2, kAdaptive = 3 };

// rANS must save at least this share (1/256) of the plane: below, the raw copy's speed is worth more.
constexpr std::uint64_t kLeastGain = 1;

// The adaptive coder learns as it goes and so needs no table, but takes a thousand times as long: longer
// planes are refused, so that a few hostile bytes cannot keep a decoder busy.
constexpr std::size_t kMostAdaptive = std::size_t{1} << 16;

// Up to here it is tried; beyond, the table has paid for itself.
constexpr std::size_t kTryAdaptive = std::size_t{1} << 13;

Bytes encode_rans(ByteView plane, std::span<const std::uint64_t> counts, std::uint64_t expected_bytes) {
    const std::vector<std::uint64_t> list(counts.begin(), counts.end());
    const rans::Frequencies table = rans::fit_tables({&list, 1}).front();
    const unsigned lanes = rans::lanes_for(expected_bytes);
    ByteWriter out;
    out.u8(static_cast<std::uint8_t>(std::countr_zero(lanes)));
    rans::write_tables(out, {&table, 1});
    Bytes stream;
    rans::Encoder({&table, 1})
        .encode(plane, {plane.size(), std::max<std::size_t>(plane.size(), 1), {}, {}}, lanes, stream);
    out.block(stream);
    return out.take();
}

void decode_rans(ByteReader& in, std::span<std::uint8_t> plane) {
    const unsigned lanes = read_lanes(in);
    const std::vector<rans::Frequencies> tables = rans::read_tables(in, 1);
    // A hostile stream may say so of a plane of no bytes; rows always have a column.
    const rans::Layout one_row{plane.size(), std::max<std::size_t>(plane.size(), 1), {}, {}};
    rans::Decoder(tables).decode(in.block("byte plane"), one_row, lanes, plane);
}

}  // namespace

unsigned read_lanes(ByteReader& in) {
    const unsigned log = in.u8("number of lanes");
    if (log >= 32 || (1U << log) > rans::kMaxLanes) in.fail("number of lanes", "is 2^" + std::to_string(log));
    return 1U << log;
}

void count_bytes(ByteView bytes, std::span<std::uint64_t, 256> counts) noexcept {
    // Four sets of counters: equal neighbours would wait for each other's increment.
    std::array<std::array<std::uint32_t, 256>, 4> sets{};
    const auto flush = [&] {
        for (std::size_t s = 0; s < 256; ++s) {
            for (auto& set : sets) counts[s] += std::exchange(set[s], 0);
        }
    };
    std::fill(counts.begin(), counts.end(), 0);
    std::size_t i = 0;
    for (; i + 4 <= bytes.size(); i += 4) {
        if ((i & 0xFFFF'FFFF) == 0xFFFF'FFFC) flush();  // before a counter could overflow
        for (std::size_t k = 0; k < 4; ++k) ++sets[k][bytes[i + k]];
    }
    for (; i < bytes.size(); ++i) ++sets[0][bytes[i]];
    flush();
}

void encode_plane(ByteView plane, PlaneEffort effort, ByteWriter& out) {
    std::array<std::uint64_t, 256> counts;
    count_bytes(plane, counts);
    if (!plane.empty() && counts[plane[0]] == plane.size()) {
        out.u8(kConstant);
        out.u8(plane[0]);
        return;
    }
    Bytes best;
    std::uint8_t mode = kRaw;
    const std::uint64_t expected = (code_length<std::uint64_t>(counts) >> kLogBits) / 8;
    if (expected + plane.size() * kLeastGain / 256 < plane.size()) {
        best = encode_rans(plane, counts, expected);
        mode = kRans;
    }
    if (effort == PlaneEffort::dense && plane.size() <= kTryAdaptive) {
        ByteWriter coded;
        Bytes stream;
        adaptive::encode_bytes(plane, stream);
        coded.block(stream);
        if (mode == kRaw || coded.size() < best.size()) {
            best = coded.take();
            mode = kAdaptive;
        }
    }
    if (mode == kRaw || best.size() >= plane.size()) {
        out.u8(kRaw);
        out.bytes(plane);
    } else {
        out.u8(mode);
        out.bytes(best);
    }
}

void decode_plane(ByteReader& in, std::span<std::uint8_t> plane) {
    const std::uint8_t mode = in.u8("mode of a byte plane");
    switch (mode) {
        case kRaw: {
            const ByteView raw = in.bytes(plane.size(), "byte plane");
            std::copy(raw.begin(), raw.end(), plane.begin());
            return;
        }
        case kConstant:
            std::fill(plane.begin(), plane.end(), in.u8("byte plane"));
            return;
        case kRans:
            decode_rans(in, plane);
            return;
        case kAdaptive:
            if (plane.size() > kMostAdaptive) in.fail("byte plane", "is too long for the adaptive coder");
            adaptive::decode_bytes(in.block("byte plane"), plane);
            return;
        default:
            in.fail("mode of a byte plane", "is " + std::to_string(mode) + ", none that is defined");
    }
}

std::optional<ByteView> raw_plane(ByteReader& in, std::size_t n) {
    ByteReader ahead = in;
    if (ahead.u8("mode of a byte plane") != kRaw) return std::nullopt;
    const ByteView plane = ahead.bytes(n, "byte plane");
    in = ahead;
    return plane;
}

}  // namespace nncodec
