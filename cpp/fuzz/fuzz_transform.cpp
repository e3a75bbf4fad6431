// Transform codec and bzip2: arbitrary models and payloads, round trips, damaged models and payloads.
#include <array>
#include <cmath>

#include "codecs/transform.hpp"
#include "entropy/bzip2.hpp"
#include "input.hpp"

using namespace nncodec;

namespace {

constexpr std::array<std::uint8_t, 4> kTypes{1, 2, 3, 4};

void decode(std::uint8_t dtype, const Shape& shape, std::size_t chunk_elements, ByteView model,
            ByteView payload, Bytes& out) {
    fuzz::accepts([&] {
        const TransformDecoder decoder(dtype, std::span(&shape, 1), chunk_elements, model);
        decoder.decode(0, payload, out);
    });
}

constexpr std::array<std::uint8_t, 10> kHeader{0x42, 0x5a, 0x68, 0x39, 0x31, 0x41, 0x59, 0x26, 0x53, 0x59};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    fuzz::Input input(data, size);
    const std::uint8_t dtype = kTypes[input.take() % kTypes.size()];
    const std::size_t element = number_format(dtype).bytes;
    Shape shape;
    std::size_t n = 1;
    for (std::size_t dims = input.between(0, 4); dims > 0; --dims) {
        shape.push_back(input.between(0, 9));
        n *= shape.back();
    }
    Bytes out(n * element);
    switch (input.take() % 4) {
        case 0: {
            const ByteView model = input.bytes(input.between(0, 300));
            decode(dtype, shape, std::max<std::size_t>(n, 1), model, input.rest(), out);
            return 0;
        }
        case 1: {  // a whole header, so that blocks of noise are read
            Bytes stream(kHeader.begin(), kHeader.end());
            for (int i = 0; i < 4; ++i) stream.push_back(input.take());
            const ByteView rest = input.rest();
            stream.insert(stream.end(), rest.begin(), rest.end());
            fuzz::accepts([&] { bzip2::decode(stream, out); });
            return 0;
        }
        default:
            break;
    }
    const double step = std::ldexp(1.0, static_cast<int>(input.between(0, 20)) - 12);
    Bytes numbers(n * element);
    std::uint64_t state = input.take<std::uint64_t>();
    for (std::size_t i = 0; i < n; ++i) {
        state = state * 6364136223846793005U + 1442695040888963407U;
        const double x = static_cast<double>(static_cast<std::int32_t>(state >> 32)) * 0x1p-31;
        const std::uint64_t bits = round_to(static_cast<DType>(dtype), x);
        std::memcpy(numbers.data() + i * element, &bits, element);
    }
    std::vector<blocks::Transform> choices{{}};
    for (const blocks::Transform& other :
         {blocks::Transform{blocks::Kind::cosine, 3, 3}, blocks::Transform{blocks::Kind::cosine, 1, 6},
          blocks::Transform{blocks::Kind::hadamard, 1, 4}}) {
        if (n % other.area() == 0 && input.take() % 2 == 0) choices = {other};
    }
    const TransformPlan plan({static_cast<DType>(dtype), numbers, shape, step, {}, "fuzz"}, choices, 1);
    if (plan.chunks() == 0) return 0;
    Bytes model = plan.model();
    Bytes payload = plan.encode_chunk(0);
    TransformDecoder(dtype, std::span(&shape, 1), plan.chunk_elements(), model).decode(0, payload, out);
    const FloatSource before(static_cast<DType>(dtype), numbers);
    const FloatSource after(static_cast<DType>(dtype), out);
    std::vector<double> x(n);
    std::vector<double> y(n);
    before.load(0, x);
    after.load(0, y);
    for (std::size_t i = 0; i < n; ++i)  // the error of a block of nine may gather in one number
        FUZZ_CHECK(std::abs(x[i] - y[i]) <= 5 * step + 0.02);
    fuzz::decode_mutants(model, payload, input, 100,
                         [&] { decode(dtype, shape, plan.chunk_elements(), model, payload, out); });
    return 0;
}
