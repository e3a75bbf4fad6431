// rANS with a trellis per lane: round trips, arbitrary and damaged streams, the same on every instruction
// set.
#include <algorithm>
#include <array>
#include <bit>

#include "base/dispatch.hpp"
#include "entropy/rans_trellis.hpp"
#include "input.hpp"

using namespace nncodec;

namespace {

constexpr Isa kLevels[] = {Isa::scalar, Isa::neon, Isa::avx2, Isa::avx512};

bool decode_everywhere(const rans::TrellisDecoder& decoder, ByteView stream, ByteView contexts,
                       unsigned lanes, std::size_t unit, std::vector<std::int16_t>& values) {
    bool accepted = false;
    bool have_first = false;
    std::vector<std::int16_t> first;
    for (const Isa isa : kLevels) {
        if (!isa_supported(isa)) continue;
        force_isa(isa_name(isa));
        std::vector<std::int16_t> out(contexts.size());
        const bool ok = fuzz::accepts([&] { decoder.decode(stream, contexts, lanes, out, unit); });
        if (have_first) {
            FUZZ_CHECK(ok == accepted);
            FUZZ_CHECK(!ok || out == first);
        }
        accepted = ok;
        have_first = true;
        first = std::move(out);
    }
    values = std::move(first);
    return accepted;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    fuzz::Input input(data, size);
    const std::uint8_t mode = input.take();
    const trellis::Code& code = trellis::kCodes[mode % trellis::kCodes.size()];
    const unsigned lanes = 1U << (input.take() % 7);

    std::vector<rans::Frequencies> tables;
    const std::size_t pairs = input.between(1, 3);
    for (std::size_t t = 0; t < 2 * pairs; ++t) {
        std::vector<std::uint64_t> counts(input.between(1, mode & 32 ? 256 : 40));
        for (std::uint64_t& c : counts) c = input.take() >> (input.take() % 8);
        counts.back() += 1;
        tables.push_back(rans::normalise(counts));
    }
    std::vector<std::int16_t> points(256 * tables.size());
    for (std::size_t i = 0; i < points.size(); ++i) points[i] = static_cast<std::int16_t>(i);
    const rans::TrellisDecoder decoder(tables, points, code);

    const std::size_t n = input.between(0, 1500);
    Bytes contexts(n);
    for (std::uint8_t& context : contexts) context = static_cast<std::uint8_t>(input.take() % pairs);
    if (mode & 16) std::sort(contexts.begin(), contexts.end());
    const std::size_t unit = mode & 64 ? input.between(1, 3) : rans::kInterleaved;
    std::vector<std::int16_t> decoded;
    if (mode & 128) {
        decode_everywhere(decoder, input.rest(), contexts, lanes, unit, decoded);
        return 0;
    }

    Bytes symbols(n);
    std::vector<std::int16_t> expected(n);
    const std::size_t piece =
        std::max<std::size_t>(trellis::piece_of(n, lanes, std::max<std::size_t>(unit, 1)), 1);
    std::array<unsigned, rans::kMaxLanes> states{};
    for (std::size_t i = 0; i < n; ++i) {
        unsigned& state = states[unit == rans::kInterleaved ? i % lanes : i / piece];
        const std::size_t table = 2U * contexts[i] + trellis::Code::union_of(state);
        const auto& of = tables[table].of;
        std::size_t symbol = input.take() % of.size();
        while (of[symbol] == 0) symbol = (symbol + 1) % of.size();
        symbols[i] = static_cast<std::uint8_t>(symbol);
        expected[i] = points[256 * table + symbol];
        state = code.next(state, symbol & 1U);
    }
    Bytes stream;
    rans::TrellisEncoder(tables, code).encode(symbols, contexts, lanes, stream, unit);
    FUZZ_CHECK(decode_everywhere(decoder, stream, contexts, lanes, unit, decoded));
    FUZZ_CHECK(decoded == expected);

    Bytes none;
    fuzz::decode_mutants(none, stream, input, 20,
                         [&] { decode_everywhere(decoder, stream, contexts, lanes, unit, decoded); });
    return 0;
}
