// Codebook codec: arbitrary models and payloads, round trips, damaged models and payloads.
#include <array>

#include "codecs/codebook.hpp"
#include "input.hpp"

using namespace nncodec;

namespace {

constexpr std::array<std::uint8_t, 4> kTypes{1, 2, 3, 4};
constexpr std::array<unsigned, 3> kDimensions{1, 2, 4};

void decode(std::uint8_t dtype, std::span<const Shape> shapes, std::size_t chunk_elements, ByteView model,
            ByteView payload, Bytes& out) {
    fuzz::accepts([&] {
        const CodebookDecoder decoder(dtype, shapes, chunk_elements, model);
        decoder.decode(0, payload, out);
    });
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    fuzz::Input input(data, size);
    const std::uint8_t dtype = kTypes[input.take() % kTypes.size()];
    const std::size_t element = number_format(dtype).bytes;
    std::vector<Shape> shapes;
    std::size_t n = 0;
    for (std::size_t tensors = input.between(1, 3); tensors > 0; --tensors) {
        Shape& shape = shapes.emplace_back();
        std::size_t product = 1;
        for (std::size_t dims = input.between(0, 4); dims > 0; --dims) {
            shape.push_back(input.between(0, 9));
            product *= shape.back();
        }
        n += product;
    }
    Bytes out(n * element);
    if (input.take() % 2 == 0) {
        const ByteView model = input.bytes(input.between(0, 300));
        decode(dtype, shapes, std::max<std::size_t>(n, 1), model, input.rest(), out);
        return 0;
    }
    CodebookInput made;
    made.dtype = static_cast<DType>(dtype);
    made.shapes = shapes;
    made.dimension = kDimensions[input.take() % kDimensions.size()];
    made.classes = input.take() % 2 == 0;
    made.name = "fuzz";
    const std::size_t entry = made.dimension * element;
    const std::size_t count = input.take() % 4 == 0 ? input.between(129, 3000) : input.between(1, 20);
    std::uint64_t state = input.take<std::uint64_t>();
    const auto next = [&state] {
        state = state * 6364136223846793005U + 1442695040888963407U;
        return state >> 33;
    };
    Bytes entries(count * entry);
    for (std::uint8_t& byte : entries) byte = static_cast<std::uint8_t>(next());
    std::vector<std::uint16_t> indices((n + made.dimension - 1) / made.dimension);
    Bytes numbers;
    for (std::uint16_t& index : indices) {
        index = static_cast<std::uint16_t>(next() % (next() % count + 1));
        const auto at = entries.begin() + static_cast<std::ptrdiff_t>(index * entry);
        numbers.insert(numbers.end(), at, at + static_cast<std::ptrdiff_t>(entry));
    }
    numbers.resize(n * element);
    made.data = numbers;
    made.entries = entries;
    made.indices = indices;
    const CodebookPlan plan(made, 1);
    if (plan.chunks() == 0) return 0;
    Bytes model = plan.model();
    Bytes payload = plan.encode_chunk(0);
    CodebookDecoder(dtype, shapes, plan.chunk_elements(), model).decode(0, payload, out);
    FUZZ_CHECK(out == numbers);
    fuzz::decode_mutants(model, payload, input, 100,
                         [&] { decode(dtype, shapes, plan.chunk_elements(), model, payload, out); });
    return 0;
}
