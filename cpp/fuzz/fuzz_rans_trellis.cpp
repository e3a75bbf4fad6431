// rANS with a trellis per lane: round trips, arbitrary and damaged streams, the same on every instruction
// set.
#include <bit>

#include "base/dispatch.hpp"
#include "entropy/rans_trellis.hpp"
#include "input.hpp"

using namespace nncodec;

namespace {

constexpr Isa kLevels[] = {Isa::scalar, Isa::neon, Isa::avx2, Isa::avx512};

bool decode_everywhere(const rans::TrellisDecoder& decoder, ByteView stream, ByteView contexts,
                       unsigned lanes, std::vector<float>& values) {
    bool accepted = false;
    bool have_first = false;
    std::vector<float> first;
    for (const Isa isa : kLevels) {
        if (!isa_supported(isa)) continue;
        force_isa(isa_name(isa));
        std::vector<float> out(contexts.size());
        const bool ok = fuzz::accepts([&] { decoder.decode(stream, contexts, lanes, out); });
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
    std::vector<float> points(256 * tables.size());
    for (std::size_t i = 0; i < points.size(); ++i) points[i] = static_cast<float>(i);
    const rans::TrellisDecoder decoder(tables, points, code);

    const std::size_t n = input.between(0, 1500);
    Bytes contexts(n);
    for (std::uint8_t& context : contexts) context = static_cast<std::uint8_t>(input.take() % pairs);
    std::vector<float> decoded;
    if (mode & 128) {
        decode_everywhere(decoder, input.rest(), contexts, lanes, decoded);
        return 0;
    }

    Bytes symbols(n);
    std::vector<float> expected(n);
    const std::size_t piece = trellis::piece_of(n, lanes);
    unsigned state = 0;
    for (std::size_t i = 0; i < n; ++i) {
        if (i % piece == 0) state = 0;
        const std::size_t table = 2U * contexts[i] + trellis::Code::union_of(state);
        const auto& of = tables[table].of;
        std::size_t symbol = input.take() % of.size();
        while (of[symbol] == 0) symbol = (symbol + 1) % of.size();
        symbols[i] = static_cast<std::uint8_t>(symbol);
        expected[i] = points[256 * table + symbol];
        state = code.next(state, symbol & 1U);
    }
    Bytes stream;
    rans::TrellisEncoder(tables, code).encode(symbols, contexts, lanes, stream);
    FUZZ_CHECK(decode_everywhere(decoder, stream, contexts, lanes, decoded));
    FUZZ_CHECK(decoded == expected);

    Bytes none;
    fuzz::decode_mutants(none, stream, input, 20,
                         [&] { decode_everywhere(decoder, stream, contexts, lanes, decoded); });
    return 0;
}
