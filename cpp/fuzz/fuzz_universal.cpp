// Universal codec: arbitrary models and payloads, round trips over lattices, dither, coders and tables,
// damage; LZW and context mixing on their own.
#include <array>
#include <cmath>

#include "codecs/universal.hpp"
#include "entropy/lzw.hpp"
#include "input.hpp"

using namespace nncodec;

namespace {

constexpr std::array<std::uint8_t, 4> kTypes{1, 2, 3, 4};

// Stands for the coders that the bindings bring: bytes as they are.
Bytes copy(universal::Coder, ByteView stream, std::size_t size) {
    if (stream.size() != size) throw DecodeError("another size");
    return {stream.begin(), stream.end()};
}

void decode(std::uint8_t dtype, std::size_t n, std::size_t chunk_elements, ByteView model, ByteView payload,
            Bytes& out) {
    fuzz::accepts([&] {
        const UniversalDecoder decoder(dtype, n, chunk_elements, model, copy);
        decoder.decode(0, payload, out);
    });
}

void coders_alone(fuzz::Input& input) {
    const std::size_t n = input.between(0, 200);
    if (input.take() % 2 == 0) {
        Bytes out(n);
        fuzz::accepts([&] { lzw::decode(input.rest(), out); });
        return;
    }
    std::vector<std::int32_t> out(n);
    const mixing::Layout layout{static_cast<std::uint32_t>(input.between(0, 5)),
                                static_cast<std::uint32_t>(input.between(1, 20)),
                                static_cast<std::uint32_t>(input.between(0, 300))};
    fuzz::accepts([&] { mixing::decode_integers(input.rest(), {}, layout, out); });
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    fuzz::Input input(data, size);
    const unsigned what = input.take() % 8;
    if (what == 0) {
        coders_alone(input);
        return 0;
    }
    const std::uint8_t dtype = kTypes[input.take() % kTypes.size()];
    const std::size_t element = number_format(dtype).bytes;
    const Shape shape{input.between(1, 6), input.between(1, 5), input.between(1, 3), input.between(1, 3)};
    const std::size_t n = shape[0] * shape[1] * shape[2] * shape[3];
    Bytes out(n * element);
    if (what < 3) {
        const ByteView model = input.bytes(input.between(0, 100));
        decode(dtype, n, std::size_t{1} << 18, model, input.rest(), out);
        return 0;
    }
    const double step = std::ldexp(1.0, static_cast<int>(input.between(0, 24)) - 20);
    const bool sparse = input.take() % 2 == 0;
    Bytes numbers(n * element);
    std::uint64_t state = input.take<std::uint64_t>();
    for (std::size_t i = 0; i < n; ++i) {
        state = state * 6364136223846793005U + 1442695040888963407U;
        const double x = static_cast<double>(static_cast<std::int32_t>(state >> 32)) * 0x1p-31;
        const bool zero = sparse && (state >> 20) % 3 != 0;
        const std::uint64_t bits = round_to(static_cast<DType>(dtype), zero ? 0 : x * x * x);
        std::memcpy(numbers.data() + i * element, &bits, element);
    }
    UniversalOptions options;
    options.lattice = static_cast<lattice::Lattice>(input.take() % lattice::kLattices);
    options.dither = static_cast<DitherMode>(input.take() % 3);
    options.coder = static_cast<universal::Coder>(input.take() % universal::kCoders);
    options.dimension = input.take() % 2 == 0 ? 0 : lattice::dimension(options.lattice);
    options.centroid = input.take() % 2 == 0;
    options.key = state;
    const UniversalPlan plan({static_cast<DType>(dtype), numbers, {shape}, step, {}, "fuzz"}, options, 1);
    Bytes model = plan.model();
    Bytes payload;
    if (options.coder <= universal::Coder::lzw) {
        payload = plan.encode_chunk(0);
    } else {
        universal::Raw raw = plan.raw_chunk(0);
        payload = raw.head;
        payload.insert(payload.end(), raw.body.begin(), raw.body.end());
    }
    UniversalDecoder(dtype, n, plan.chunk_elements(), model, copy).decode(0, payload, out);
    const FloatSource before(static_cast<DType>(dtype), numbers);
    const FloatSource after(static_cast<DType>(dtype), out);
    std::vector<double> x(n);
    std::vector<double> y(n);
    before.load(0, x);
    after.load(0, y);
    // Below the covering radius of any cell of volume 1, times two for centroids; shrinking moves towards 0.
    double error = 0;
    for (std::size_t i = 0; i < n; ++i) error += (x[i] - y[i]) * (x[i] - y[i]);
    FUZZ_CHECK(std::abs(error - plan.squared_error()) <= 1e-9 * (error + 1e-300));
    for (std::size_t i = 0; i < n; ++i) {
        FUZZ_CHECK(std::abs(x[i] - y[i]) <= 3 * step + std::abs(x[i]) + 1e-7);
        FUZZ_CHECK(x[i] != 0 || std::abs(y[i]) <= 3 * step);
    }
    fuzz::decode_mutants(model, payload, input, 60,
                         [&] { decode(dtype, n, plan.chunk_elements(), model, payload, out); });
    return 0;
}
