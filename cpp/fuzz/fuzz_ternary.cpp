// Ternary codec: arbitrary models, payloads and messages, round trips, damaged ones.
#include <array>
#include <cmath>

#include "codecs/ternary.hpp"
#include "entropy/ternary_rans.hpp"
#include "input.hpp"
#include "quantize/float_source.hpp"

using namespace nncodec;

namespace {

constexpr std::array kTypes{DType::float32, DType::float16, DType::bfloat16};

void decode(DType dtype, std::size_t chunk_elements, ByteView model, ByteView payload, Bytes& out) {
    fuzz::accepts([&] {
        const ternary::Decoder decoder(static_cast<std::uint8_t>(dtype), chunk_elements, model);
        decoder.decode(0, payload, out);
    });
}

void read_message(ByteView message, DType dtype, std::size_t n, Bytes& out) {
    fuzz::accepts([&] { ternary::read_message(message, dtype, n, 0.5F, true, out.data()); });
}

// Skewed numbers of the type; one in `rarity` is large.
Bytes numbers_of(DType dtype, std::size_t n, std::uint64_t state) {
    const std::size_t width = number_format(static_cast<std::uint8_t>(dtype)).bytes;
    Bytes numbers(n * width);
    const std::uint64_t rarity = 1 + (state >> 60) * 7;
    for (std::size_t i = 0; i < n; ++i) {
        state = state * 6364136223846793005U + 1442695040888963407U;
        const double x = static_cast<double>(static_cast<std::int32_t>(state >> 32)) * 0x1p-31;
        const std::uint64_t bits = round_to(dtype, (state >> 8) % rarity == 0 ? x : x / 4);
        std::memcpy(numbers.data() + i * width, &bits, width);
    }
    return numbers;
}

std::vector<double> as_doubles(DType dtype, ByteView data) {
    const FloatSource source(dtype, data);
    std::vector<double> values(source.size());
    source.load(0, values);
    return values;
}

void messages(DType dtype, std::size_t n, float s, ternary::Coding coding, const Bytes& numbers,
              fuzz::Input& input) {
    std::vector<float> residual(n);
    for (std::size_t i = 0; i < n; ++i) residual[i] = static_cast<float>(i % 7) / 16;
    const std::vector<float> before = residual;
    Bytes message;
    FUZZ_CHECK(ternary::write_message(dtype, numbers.data(), residual.data(), n, s, coding, message));
    std::vector<float> said(n);
    ternary::read_message(message, DType::float32, n, 1, false, said.data());
    const std::vector<double> values = as_doubles(dtype, numbers);
    for (std::size_t i = 0; i < n; ++i) {
        const float sum = before[i] + static_cast<float>(values[i]);
        FUZZ_CHECK(static_cast<double>(said[i]) + static_cast<double>(residual[i]) ==
                   static_cast<double>(sum));
    }
    Bytes out(numbers.size());
    Bytes no_model;
    fuzz::decode_mutants(no_model, message, input, 60, [&] { read_message(message, dtype, n, out); });
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    fuzz::Input input(data, size);
    const DType dtype = kTypes[input.take() % kTypes.size()];
    const std::size_t width = number_format(static_cast<std::uint8_t>(dtype)).bytes;
    const std::size_t n = input.between(0, input.take() % 8 == 0 ? 4000 : 700);
    Bytes out(n * width);
    const unsigned what = input.take();
    if (what % 4 == 0) {
        const ByteView model = input.bytes(input.between(0, 12));
        decode(dtype, std::max<std::size_t>(n, 1), model, input.rest(), out);
        return 0;
    }
    if (what % 4 == 1) {
        read_message(input.rest(), dtype, n, out);
        return 0;
    }
    const float s = 1 + static_cast<float>(input.take()) / 257;
    const ternary::Coding coding{static_cast<ternary::Layout>(input.take() % 2),
                                 static_cast<ternary::Entropy>(input.take() % 2)};
    const std::size_t block = input.take() % 2 == 0 ? 0 : input.between(1, 300);
    const Bytes numbers = numbers_of(dtype, n, input.take<std::uint64_t>());
    if (what % 4 == 2) {
        messages(dtype, n, s, coding, numbers, input);
        return 0;
    }
    const ternary::Encoder encoder({dtype, numbers, s, block, coding, "fuzz"});
    if (encoder.chunks() == 0) return 0;
    Bytes model = encoder.model();
    Bytes payload = encoder.encode_chunk(0);
    ternary::Decoder(static_cast<std::uint8_t>(dtype), encoder.chunk_elements(), model)
        .decode(0, payload, out);
    const std::vector<double> x = as_doubles(dtype, numbers);
    const std::vector<double> y = as_doubles(dtype, out);
    for (std::size_t i = 0; i < n; ++i) FUZZ_CHECK(std::abs(x[i] - y[i]) <= 2);
    fuzz::decode_mutants(model, payload, input, 60,
                         [&] { decode(dtype, encoder.chunk_elements(), model, payload, out); });
    return 0;
}
