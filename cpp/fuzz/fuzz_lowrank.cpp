// Low-rank codec: arbitrary models, round trips, damaged models.
#include <array>
#include <cmath>

#include "codecs/lowrank.hpp"
#include "codecs/uniform.hpp"
#include "input.hpp"
#include "transform/low_rank.hpp"

using namespace nncodec;

namespace {

constexpr std::array<std::uint8_t, 4> kTypes{1, 2, 3, 4};

void decode(std::uint8_t dtype, const Shape& shape, std::size_t chunk_elements, ByteView model,
            ByteView payload, Bytes& out) {
    fuzz::accepts([&] {
        const LowRankDecoder decoder(dtype, std::span(&shape, 1), chunk_elements, model);
        decoder.decode(0, payload, out);
    });
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    fuzz::Input input(data, size);
    const std::uint8_t dtype = kTypes[input.take() % kTypes.size()];
    const std::size_t element = number_format(dtype).bytes;
    Shape shape;
    std::size_t n = 1;
    for (std::size_t dims = input.between(1, 4); dims > 0; --dims) {
        shape.push_back(input.between(1, 9));
        n *= shape.back();
    }
    const auto [rows, columns] = lowrank::sides_of(shape);
    Bytes out(n * element);
    if (input.take() % 4 == 0) {
        Bytes model{static_cast<std::uint8_t>(input.take() % 3), static_cast<std::uint8_t>(input.take() % 5)};
        const ByteView more = input.bytes(input.between(0, 300));
        model.insert(model.end(), more.begin(), more.end());
        const ByteView payload = input.take() % 4 == 0 ? input.rest() : ByteView{};
        decode(dtype, shape, n, model, payload, out);
        return 0;
    }
    const double step = std::ldexp(1.0, static_cast<int>(input.between(0, 16)) - 14);
    std::vector<double> numbers(n);
    std::uint64_t state = input.take<std::uint64_t>();
    for (double& x : numbers) {
        state = state * 6364136223846793005U + 1442695040888963407U;
        x = static_cast<double>(static_cast<std::int32_t>(state >> 32)) * 0x1p-31;
    }
    std::vector<double> values;
    const std::size_t side = std::min(rows, columns);
    const low_rank::Factors factors =
        low_rank::decompose(numbers, rows, columns, {input.between(0, side), 0.9}, values);
    const std::size_t rank = factors.rank;
    std::vector<float> both = factors.left;
    both.insert(both.end(), factors.right.begin(), factors.right.end());
    const ByteView raw{reinterpret_cast<const std::uint8_t*>(both.data()), 4 * both.size()};
    const std::vector<Shape> inner{{rows, rank}, {rank, columns}};
    const UniformPlan plan({DType::float32, raw, inner, step, {}, "fuzz"},
                           {true, 0.0, true, TransformChoice::none}, 1);
    std::vector<Bytes> chunks;
    for (std::size_t i = 0; i < plan.chunks(); ++i) chunks.push_back(plan.encode_chunk(i));
    const std::vector<ByteView> views(chunks.begin(), chunks.end());
    Bytes model = lowrank::write_model(2, factors.scales, plan.chunk_elements(), plan.model(), views);
    Bytes payload;
    const LowRankDecoder whole(dtype, std::span(&shape, 1), n, model);
    FUZZ_CHECK(whole.rank() == rank);
    whole.decode(0, payload, out);
    // The error is what was left out, and what the factors' errors make, which keep their length; a product
    // of both errors is divided by a singular value that may be small, but is then no longer than the error.
    double left_out = 0;
    for (std::size_t k = rank; k < values.size(); ++k) left_out += values[k] * values[k];
    const FloatSource after(static_cast<DType>(dtype), out);
    std::vector<double> y(n);
    after.load(0, y);
    double error = 0;
    for (std::size_t i = 0; i < n; ++i) error += (numbers[i] - y[i]) * (numbers[i] - y[i]);
    const double quantised = 2 * step * std::sqrt(static_cast<double>(both.size()));
    double crossed = 0;
    for (std::size_t k = 0; k < rank; ++k) {
        crossed +=
            values[k] > 0 ? 4 * step * step * std::sqrt(static_cast<double>(rows * columns)) / values[k] : 0;
    }
    const double most = std::sqrt(left_out) + quantised + crossed + 0.02 * std::sqrt(static_cast<double>(n));
    FUZZ_CHECK(std::sqrt(error) <= most);
    fuzz::decode_mutants(model, payload, input, 100, [&] { decode(dtype, shape, n, model, payload, out); });
    return 0;
}
