// Uniform codec: arbitrary models and payloads, round trips, damaged models and payloads.
#include <array>
#include <cmath>

#include "codecs/uniform.hpp"
#include "input.hpp"

using namespace nncodec;

namespace {

constexpr std::array<std::uint8_t, 4> kTypes{1, 2, 3, 4};

void decode(std::uint8_t dtype, std::span<const Shape> shapes, std::size_t chunk_elements, ByteView model,
            ByteView payload, Bytes& out) {
    fuzz::accepts([&] {
        const UniformDecoder decoder(dtype, shapes, chunk_elements, model);
        decoder.decode(0, payload, out);
    });
}

std::vector<Shape> make_shapes(fuzz::Input& input) {
    std::vector<Shape> shapes;
    for (std::size_t tensors = input.between(1, 3); tensors > 0; --tensors) {
        Shape& shape = shapes.emplace_back();
        for (std::size_t dims = input.between(0, 4); dims > 0; --dims) shape.push_back(input.between(0, 9));
    }
    return shapes;
}

std::size_t elements_of(std::span<const Shape> shapes) {
    std::size_t total = 0;
    for (const Shape& shape : shapes) {
        std::size_t n = 1;
        for (const std::size_t size : shape) n *= size;
        total += n;
    }
    return total;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    fuzz::Input input(data, size);
    const std::uint8_t dtype = kTypes[input.take() % kTypes.size()];
    const std::size_t element = number_format(dtype).bytes;
    const std::vector<Shape> shapes = make_shapes(input);
    const std::size_t n = elements_of(shapes);
    Bytes out(n * element);
    if (input.take() % 2 == 0) {
        const ByteView model = input.bytes(input.between(0, 300));
        decode(dtype, shapes, std::max<std::size_t>(n, 1), model, input.rest(), out);
        return 0;
    }
    const double step = std::ldexp(1.0, static_cast<int>(input.between(0, 30)) - 20);
    Bytes numbers(n * element);
    std::uint64_t state = input.take<std::uint64_t>();
    for (std::size_t i = 0; i < n; ++i) {
        state = state * 6364136223846793005U + 1442695040888963407U;
        const double x = static_cast<double>(static_cast<std::int32_t>(state >> 32)) * 0x1p-31;
        const std::uint64_t bits = round_to(static_cast<DType>(dtype), i % 3 == 0 ? x : x * x * x);
        std::memcpy(numbers.data() + i * element, &bits, element);
    }
    const UniformOptions options{input.take() % 2 == 0, input.take() % 2 == 0 ? 0.0 : 0.8,
                                 input.take() % 4 != 0, static_cast<TransformChoice>(input.take() % 3)};
    const UniformPlan plan({static_cast<DType>(dtype), numbers, shapes, step, {}, "fuzz"}, options, 1);
    if (plan.chunks() == 0) return 0;
    Bytes model = plan.model();
    Bytes payload = plan.encode_chunk(0);
    const UniformDecoder whole(dtype, shapes, plan.chunk_elements(), model);
    whole.decode(0, payload, out);
    const FloatSource before(static_cast<DType>(dtype), numbers);
    const FloatSource after(static_cast<DType>(dtype), out);
    std::vector<double> x(n);
    std::vector<double> y(n);
    before.load(0, x);
    after.load(0, y);
    // A transform keeps the error of a row of up to nine elements, not that of each element.
    const double most = (options.transform == TransformChoice::klt ? 6 : 2) * step;
    for (std::size_t i = 0; i < n; ++i)
        FUZZ_CHECK(std::abs(x[i] - y[i]) <= most + 0.01 * std::abs(x[i]) + 1e-7);

    fuzz::decode_mutants(model, payload, input, 100, [&] {
        if (model == plan.model()) {  // building a decoder takes longer than decoding so little
            fuzz::accepts([&] { whole.decode(0, payload, out); });
        } else {
            decode(dtype, shapes, plan.chunk_elements(), model, payload, out);
        }
    });
    return 0;
}
