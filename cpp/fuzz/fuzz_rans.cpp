// rANS: arbitrary tables, arbitrary streams on every instruction set, round trips, damaged streams.
#include <algorithm>

#include "base/dispatch.hpp"
#include "entropy/rans.hpp"
#include "input.hpp"

using namespace nncodec;

namespace {

constexpr Isa kLevels[] = {Isa::scalar, Isa::neon, Isa::avx2, Isa::avx512};

// What decoding gives: the same for every instruction set, be it symbols or an error.
bool decode_everywhere(const rans::Decoder& decoder, ByteView stream, const rans::Layout& layout,
                       unsigned lanes, Bytes& symbols) {
    bool accepted = false;
    bool have_first = false;
    Bytes first;
    for (const Isa isa : kLevels) {
        if (!isa_supported(isa)) continue;
        force_isa(isa_name(isa));
        Bytes out(layout.n);
        const bool ok = fuzz::accepts([&] { decoder.decode(stream, layout, lanes, out); });
        if (have_first) {
            FUZZ_CHECK(ok == accepted);
            FUZZ_CHECK(!ok || out == first);
        }
        accepted = ok;
        have_first = true;
        first = std::move(out);
    }
    symbols = std::move(first);
    return accepted;
}

Bytes contexts(fuzz::Input& input, std::size_t n, std::size_t limit) {
    Bytes result(n);
    for (std::uint8_t& context : result) context = static_cast<std::uint8_t>(input.take() % limit);
    return result;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    fuzz::Input input(data, size);
    const std::uint8_t mode = input.take();

    std::vector<rans::Frequencies> tables;
    if (mode % 4 == 0) {
        const ByteView bytes = input.bytes(input.between(0, 80));
        const bool ok = fuzz::accepts([&] {
            ByteReader reader(bytes);
            tables = rans::read_tables(reader, 20);
        });
        if (!ok) return 0;
        ByteWriter writer;
        rans::write_tables(writer, tables);
        ByteReader reader(writer.data());
        FUZZ_CHECK(rans::read_tables(reader) == tables);
    } else {
        const unsigned prob_bits = mode & 64 ? 12 + input.take() % 5 : 12;
        const std::size_t count = input.between(1, 4);
        for (std::size_t t = 0; t < count; ++t) {
            std::vector<std::uint64_t> counts(input.between(1, mode & 32 ? 256 : 40));
            for (std::uint64_t& c : counts) c = input.take() >> (input.take() % 8);
            counts.back() += 1;
            tables.push_back(rans::normalise(counts, prob_bits));
        }
    }

    const unsigned lanes = 1U << (input.take() % 7);
    const std::size_t n = input.between(0, mode & 2 ? 6000 : 1500);  // long ones have their slots written out
    const std::size_t columns = input.between(1, mode & 16 ? 40 : 700);
    const std::size_t split = input.between(0, tables.size() - 1);
    const Bytes rows = contexts(input, mode & 8 ? (n + columns - 1) / columns : 0, split + 1);
    const Bytes across = contexts(input, mode & 4 ? columns : 0, tables.size() - split);
    const rans::Layout layout{n, columns, rows, across};
    const rans::Decoder decoder(tables);
    Bytes decoded;

    if (mode & 128) {
        decode_everywhere(decoder, input.rest(), layout, lanes, decoded);
        return 0;
    }

    Bytes symbols(n);
    for (std::size_t i = 0; i < n; ++i) {
        const std::size_t table =
            (rows.empty() ? 0 : rows[i / columns]) + (across.empty() ? 0 : across[i % columns]);
        const auto& of = tables[table].of;
        std::size_t symbol = input.take() % of.size();
        while (of[symbol] == 0) symbol = (symbol + 1) % of.size();
        symbols[i] = static_cast<std::uint8_t>(symbol);
    }
    Bytes stream;
    const rans::Encoder encoder(tables);
    for (const Isa isa : kLevels) {
        if (!isa_supported(isa)) continue;
        force_isa(isa_name(isa));
        Bytes again;
        encoder.encode(symbols, layout, lanes, again);
        FUZZ_CHECK(stream.empty() || again == stream);
        stream = std::move(again);
    }
    FUZZ_CHECK(decode_everywhere(decoder, stream, layout, lanes, decoded));
    FUZZ_CHECK(decoded == symbols);

    Bytes none;
    fuzz::decode_mutants(none, stream, input, 20,
                         [&] { decode_everywhere(decoder, stream, layout, lanes, decoded); });
    return 0;
}
