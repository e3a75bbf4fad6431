// Weightless codec: arbitrary models and payloads, round trips in every mode, damaged models and payloads,
// decoded whole and looked up.
#include <array>
#include <cmath>

#include "codecs/weightless.hpp"
#include "input.hpp"

using namespace nncodec;

namespace {

constexpr std::array<std::uint8_t, 4> kTypes{1, 2, 3, 4};

// Whole and position by position: both refuse, or both say the same.
void decode(std::uint8_t dtype, std::size_t n, std::size_t chunk_elements, ByteView model, ByteView payload) {
    const std::size_t element = number_format(dtype).bytes;
    Bytes out(n * element);
    Bytes single(n * element);
    std::vector<weightless::Key> everywhere(n);
    for (std::size_t i = 0; i < n; ++i) everywhere[i] = static_cast<weightless::Key>(i);
    fuzz::accepts([&] {
        const WeightlessDecoder decoder(dtype, n, chunk_elements, model);
        const bool whole = fuzz::accepts([&] { decoder.decode(0, payload, out); });
        const bool looked_up = fuzz::accepts([&] { decoder.look_up(0, payload, everywhere, single); });
        FUZZ_CHECK(whole == looked_up);
        FUZZ_CHECK(!whole || out == single);
    });
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    fuzz::Input input(data, size);
    const std::uint8_t dtype = kTypes[input.take() % kTypes.size()];
    const std::size_t element = number_format(dtype).bytes;
    const std::size_t n = input.between(1, input.take() % 8 == 0 ? 3000 : 200);
    if (input.take() % 4 == 0) {
        const ByteView model = input.bytes(input.between(0, 40));
        decode(dtype, n, n, model, input.rest());
        return 0;
    }
    weightless::Model model;
    const unsigned mode = input.take();
    model.structure = mode % 2 == 0 ? weightless::Structure::ribbon : weightless::Structure::bloomier;
    model.exact = mode / 2 % 2 != 0;
    model.packed = mode / 4 % 2 != 0 && model.structure == weightless::Structure::bloomier;
    model.bits = 1 + input.take() % 12U;
    model.words = 1 + input.take() % 7U;
    const std::size_t n_values = 1 + input.take() % std::min(20U, 1U << model.bits);
    Bytes values;
    for (std::size_t v = 0; v < n_values; ++v) {
        const std::uint64_t bits = round_to(static_cast<DType>(dtype), 0.25 * static_cast<double>(v + 1));
        const auto* const bytes = reinterpret_cast<const std::uint8_t*>(&bits);
        values.insert(values.end(), bytes, bytes + element);
    }
    // A narrow window takes few keys only.
    const unsigned sparsity = model.words < 3 ? 60 : input.take() % 40U;
    Bytes numbers(n * element);
    std::uint64_t state = input.take<std::uint64_t>();
    for (std::size_t i = 0; i < n; ++i) {
        state = state * 6364136223846793005U + 1442695040888963407U;
        if ((state >> 60) * 4 < sparsity) continue;
        std::memcpy(numbers.data() + i * element, values.data() + (state >> 33) % n_values * element,
                    element);
    }
    const WeightlessPlan plan(dtype, numbers, values, model, input.take(), "fuzz");
    Bytes head = plan.model();
    Bytes payload;
    try {
        payload = plan.encode_chunk(0);
    } catch (const ArgumentError&) {
        FUZZ_CHECK(model.words < 3);  // only there may no seed work
        return 0;
    }
    Bytes out(n * element);
    WeightlessDecoder(dtype, n, plan.chunk_elements(), head).decode(0, payload, out);
    for (std::size_t i = 0; i < numbers.size(); i += element) {
        const bool key = std::any_of(numbers.begin() + static_cast<std::ptrdiff_t>(i),
                                     numbers.begin() + static_cast<std::ptrdiff_t>(i + element),
                                     [](std::uint8_t b) { return b != 0; });
        if (key || model.exact) FUZZ_CHECK(std::memcmp(out.data() + i, numbers.data() + i, element) == 0);
    }
    fuzz::decode_mutants(head, payload, input, 60,
                         [&] { decode(dtype, n, plan.chunk_elements(), head, payload); });
    return 0;
}
