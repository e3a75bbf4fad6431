// Trellis codec: arbitrary models and payloads, round trips, levels from elsewhere, damaged models and
// payloads.
#include <array>
#include <cmath>

#include "codecs/trellis.hpp"
#include "input.hpp"
#include "quantize/float_source.hpp"

using namespace nncodec;

namespace {

constexpr std::array<std::uint8_t, 4> kTypes{1, 2, 3, 4};

void decode(std::uint8_t dtype, std::span<const Shape> shapes, std::size_t chunk_elements, ByteView model,
            unsigned version, ByteView payload, Bytes& out) {
    fuzz::accepts([&] {
        const TrellisDecoder decoder(dtype, shapes, chunk_elements, model, version);
        decoder.decode(0, payload, out);
    });
}

std::size_t size_of(const Shape& shape) {
    std::size_t n = 1;
    for (const std::size_t size : shape) n *= size;
    return n;
}

std::vector<Shape> make_shapes(fuzz::Input& input) {
    std::vector<Shape> shapes;
    for (std::size_t tensors = input.between(1, 3); tensors > 0; --tensors) {
        Shape& shape = shapes.emplace_back();
        for (std::size_t dims = input.between(0, 4); dims > 0; --dims) shape.push_back(input.between(0, 9));
    }
    return shapes;
}

class Numbers {
  public:
    explicit Numbers(fuzz::Input& input) : state_(input.take<std::uint64_t>()) {}
    // Between -1 and 1.
    double next() {
        state_ = state_ * 6364136223846793005U + 1442695040888963407U;
        return static_cast<double>(static_cast<std::int32_t>(state_ >> 32)) * 0x1p-31;
    }

  private:
    std::uint64_t state_;
};

void check_plan(const TrellisPlan& plan, std::uint8_t dtype, std::span<const Shape> shapes, Bytes& out,
                fuzz::Input& input) {
    if (plan.chunks() != 1) return;
    Bytes model = plan.model();
    Bytes payload = plan.encode_chunk(0);
    const unsigned version = plan.version();
    TrellisDecoder(dtype, shapes, plan.chunk_elements(), model, version).decode(0, payload, out);
    const Bytes good = out;
    fuzz::decode_mutants(model, payload, input, 100,
                         [&] { decode(dtype, shapes, plan.chunk_elements(), model, version, payload, out); });
    out = good;
}

void levels_from_elsewhere(fuzz::Input& input, Numbers numbers) {
    TrellisPlan::Given given;
    given.dtype = DType::float32;
    given.shape = {input.between(1, 9), input.between(1, 9), input.between(1, 3)};
    const std::size_t n = size_of(given.shape);
    const std::size_t row = given.shape[1] * given.shape[2];
    std::vector<std::int16_t> levels(n);
    const double reach = input.take() % 4 == 0 ? 16383 : 8;
    for (std::int16_t& level : levels) level = static_cast<std::int16_t>(numbers.next() * reach);
    given.levels = levels;
    given.step = 0.5F;
    given.states = 8U << input.between(0, 7);
    given.alphabet = static_cast<trellis::Alphabet>(input.take() % 2);
    given.by_columns = input.take() % 2 == 0;
    given.lanes = 1U << input.between(0, 6);
    given.chunk_elements = n;
    for (std::size_t c = 0; c < row; ++c)
        given.column_steps.push_back(static_cast<std::int8_t>(numbers.next() * 40));
    const TrellisPlan plan(given, 1);
    Bytes out(4 * n);
    check_plan(plan, 2, std::span(&given.shape, 1), out, input);
    // Walk the levels as the format says.
    const std::size_t piece = trellis::piece_of(n, given.lanes, row);
    const trellis::Code& code = trellis::code_of(given.states);
    std::array<unsigned, rans::kMaxLanes> states{};
    for (std::size_t i = 0; i < n; ++i) {
        std::size_t at = i;
        if (given.by_columns) {
            const std::size_t begin = i / piece * piece;
            const std::size_t rows = std::min(piece, n - begin) / row;
            at = begin + (i - begin) % rows * row + (i - begin) / rows;
        }
        unsigned& state = states[given.by_columns ? i / piece : i % given.lanes];
        const int grid = trellis::point_of(given.alphabet, state & 1U, levels[at]);
        const float value = static_cast<float>(256 * grid) * (given.step / 256.0F) *
                            trellis_codec::step_factor(given.column_steps[at % row]);
        FUZZ_CHECK(load_le<float>(out.data() + 4 * at) == value);
        state = code.next(state, static_cast<unsigned>(levels[at]) & 1U);
    }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    fuzz::Input input(data, size);
    const std::uint8_t dtype = kTypes[input.take() % kTypes.size()];
    const std::size_t element = number_format(dtype).bytes;
    const std::vector<Shape> shapes = make_shapes(input);
    std::size_t n = 0;
    for (const Shape& shape : shapes) n += size_of(shape);
    Bytes out(n * element);
    const unsigned what = input.take() % 4;
    if (what == 0) {
        const auto version = static_cast<unsigned>(input.between(1, 2));
        const ByteView model = input.bytes(input.between(0, 300));
        decode(dtype, shapes, std::max<std::size_t>(n, 1), model, version, input.rest(), out);
        return 0;
    }
    if (what == 1) {
        levels_from_elsewhere(input, Numbers(input));
        return 0;
    }
    const double step = std::ldexp(1.0, static_cast<int>(input.between(0, 16)) - 12);
    Bytes bytes(n * element);
    Numbers numbers(input);
    // Kernels that change little from place to place, so that layouts pay.
    const bool smooth = input.take() % 4 == 0;
    const std::size_t channels = shapes[0].empty() ? 1 : std::max<std::size_t>(shapes[0].back(), 1);
    std::vector<double> of_channel(channels);
    for (double& x : of_channel) x = numbers.next();
    for (std::size_t i = 0; i < n; ++i) {
        double x = numbers.next();
        if (smooth) x = of_channel[i % channels] * static_cast<double>(1 + i / (n / 4 + 1)) / 4 + x / 64;
        const std::uint64_t bits = round_to(static_cast<DType>(dtype), i % 3 == 0 ? x : x * x * x);
        std::memcpy(bytes.data() + i * element, &bits, element);
    }
    std::vector<float> importance;
    if (input.take() % 4 == 0) {
        for (std::size_t i = 0; i < n; ++i)
            importance.push_back(static_cast<float>(std::abs(numbers.next())));
    }
    TrellisOptions options;
    options.states = 8U << input.between(0, 4);
    options.alphabet = static_cast<TrellisAlphabet>(input.take() % 3);
    options.transform = input.take() % 2 == 0;
    options.layouts = input.take() % 4 != 0;
    options.classes = input.take() % 4 != 0;
    options.centroids = input.take() % 2 == 0;
    const TrellisStudy study({static_cast<DType>(dtype), bytes, shapes, importance, "fuzz"}, options, step,
                             1);
    const TrellisPlan plan(study, step, 1);
    check_plan(plan, dtype, shapes, out, input);
    if (plan.chunks() == 0 || !importance.empty()) return 0;
    const FloatSource before(static_cast<DType>(dtype), bytes);
    const FloatSource after(static_cast<DType>(dtype), out);
    std::vector<double> x(n);
    std::vector<double> y(n);
    before.load(0, x);
    after.load(0, y);
    // A transform keeps the error of a kernel of up to 81 elements, not that of each; a path far from the
    // nearest one costs more than any bits.
    const double most = (options.transform ? 60 : 8) * step;
    for (std::size_t i = 0; i < n; ++i)
        FUZZ_CHECK(std::abs(x[i] - y[i]) <= most + 0.01 * std::abs(x[i]) + 1e-7);
    return 0;
}
