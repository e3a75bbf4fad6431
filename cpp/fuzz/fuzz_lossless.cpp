// Lossless codec: arbitrary models and payloads, round trips, damaged models and payloads.
#include <array>

#include "codecs/lossless.hpp"
#include "input.hpp"

using namespace nncodec;

namespace {

constexpr std::array<std::uint8_t, 12> kTypes{1, 2, 3, 4, 5, 16, 17, 18, 19, 32, 49, 50};

void decode(unsigned version, std::uint8_t dtype, std::uint64_t elements, std::size_t chunk_elements,
            ByteView model, ByteView payload, Bytes& out) {
    fuzz::accepts([&] {
        const lossless::Decoder decoder(version, dtype, elements, chunk_elements, model);
        decoder.decode(0, payload, out);
    });
}

// Numbers as the input has them, or drawn from a few of them, so that every kind of model comes up.
Bytes make_data(fuzz::Input& input, std::size_t element) {
    const std::size_t n =
        input.between(1, input.take() % 16 == 0 ? 3000 : 150);  // short ones decode more often
    const std::uint8_t style = input.take();
    const ByteView seed = input.bytes(input.between(1, 400));
    Bytes data(n * element);
    std::uint64_t state = style;
    for (std::size_t i = 0; i < data.size(); ++i) {
        state = state * 6364136223846793005U + 1442695040888963407U;
        const std::size_t at = style % 3 == 0 ? i : static_cast<std::size_t>(state >> 40);
        data[i] = seed.empty() || (style % 3 == 2 && at % 3 == 0) ? std::uint8_t{0} : seed[at % seed.size()];
    }
    return data;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    fuzz::Input input(data, size);
    const std::uint8_t dtype = kTypes[input.take() % kTypes.size()];
    const NumberFormat format = number_format(dtype);
    const std::size_t element = std::size_t{format.bytes} * format.numbers;
    if (input.take() % 2 == 0) {
        const std::size_t n = input.between(1, 3000);
        const ByteView model = input.bytes(input.between(0, 300));
        Bytes out(n * element);
        decode(input.take() % 2 + 1U, dtype, n, n, model, input.rest(), out);
        return 0;
    }
    const Bytes numbers = make_data(input, element);
    const lossless::Part part{dtype, input.between(1, 300), numbers};
    std::vector<lossless::Encoding> encodings = lossless::encode({&part, 1}, 1);
    const std::vector<Bytes> chunks = encodings[0].encode(0, encodings[0].chunks(), 1);
    FUZZ_CHECK(chunks.size() == 1);
    const std::size_t n = numbers.size() / element;
    Bytes out(numbers.size());
    const unsigned version = encodings[0].version();
    const lossless::Decoder whole(version, dtype, n, encodings[0].chunk_elements(), encodings[0].model());
    whole.decode(0, chunks[0], out);
    FUZZ_CHECK(out == numbers);

    Bytes model = encodings[0].model();
    Bytes payload = chunks[0];
    fuzz::decode_mutants(model, payload, input, 100, [&] {
        if (model == encodings[0].model()) {  // building a decoder takes longer than decoding so little
            fuzz::accepts([&] { whole.decode(0, payload, out); });
        } else {
            decode(version, dtype, n, encodings[0].chunk_elements(), model, payload, out);
        }
    });
    return 0;
}
