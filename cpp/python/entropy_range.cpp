// Range coder: the pieces of models.hpp, each as a codec of a whole array, so that tests can hold them
// against twins.
#include "entropy/models.hpp"
#include "python/convert.hpp"

namespace nncodec::python {
namespace {

// `step(coder, i)` codes the i-th value.
template <typename Step>
py::bytes encode_all(std::size_t n, Step&& step) {
    Bytes out;
    {
        const py::gil_scoped_release nogil;
        range::BinaryEncoder coder(out);
        for (std::size_t i = 0; i < n; ++i) step(coder, i);
        coder.finish();
    }
    return to_bytes(out);
}

template <typename Step>
void decode_all(ByteView stream, std::size_t n, Step&& step) {
    const py::gil_scoped_release nogil;
    range::BinaryDecoder coder(stream);
    for (std::size_t i = 0; i < n; ++i) step(coder, i);
    check(coder.finish(), "range coder");
}

std::span<const std::uint16_t> checked_probabilities(const BufferView& view, std::size_t n) {
    const auto probabilities = view.as<std::uint16_t>("probabilities");
    if (probabilities.size() != n) throw py::value_error("probabilities must be as many as bits");
    for (const std::uint16_t p : probabilities) {
        if (p == 0) throw py::value_error("probabilities must be at least 1");
    }
    return probabilities;
}

template <typename Model>
py::bytes encode_symbols(ByteView symbols) {
    range::BitTree<8, Model> tree;
    return encode_all(symbols.size(), [&](auto& coder, std::size_t i) { tree.code(coder, symbols[i]); });
}

template <typename Model>
void decode_symbols(ByteView stream, std::span<std::uint8_t> out) {
    range::BitTree<8, Model> tree;
    decode_all(stream, out.size(),
               [&](auto& coder, std::size_t i) { out[i] = static_cast<std::uint8_t>(tree.code(coder, 0)); });
}

}  // namespace

void register_range(py::module_& m) {
    m.def(
        "range_encode_bits",
        [](const py::object& bits, const py::object& probabilities) {
            const BufferView from(bits, "bits");
            const BufferView with(probabilities, "probabilities");
            const ByteView values = from.bytes();
            const auto p = checked_probabilities(with, values.size());
            return encode_all(values.size(),
                              [&](auto& coder, std::size_t i) { coder.code(values[i] != 0, p[i]); });
        },
        "bits"_a, "probabilities"_a,
        "Code bits (a byte each), each with a probability of a 1 (uint16, of 2^-16).");
    m.def(
        "range_decode_bits",
        [](const py::object& stream, const py::object& probabilities, const py::object& out) {
            const BufferView from(stream, "stream");
            const BufferView with(probabilities, "probabilities");
            const BufferView to(out, "out", true);
            const auto values = to.writable_bytes();
            const auto p = checked_probabilities(with, values.size());
            decode_all(from.bytes(), values.size(),
                       [&](auto& coder, std::size_t i) { values[i] = coder.code(false, p[i]); });
        },
        "stream"_a, "probabilities"_a, "out"_a);

    m.def(
        "range_encode_symbols",
        [](const py::object& symbols, bool two_rates) {
            const BufferView from(symbols, "symbols");
            return two_rates ? encode_symbols<range::TwoRateModel>(from.bytes())
                             : encode_symbols<range::BitModel>(from.bytes());
        },
        "symbols"_a, "two_rates"_a = false, "Code bytes with one bit tree.");
    m.def(
        "range_decode_symbols",
        [](const py::object& stream, const py::object& out, bool two_rates) {
            const BufferView from(stream, "stream");
            const BufferView to(out, "out", true);
            two_rates ? decode_symbols<range::TwoRateModel>(from.bytes(), to.writable_bytes())
                      : decode_symbols<range::BitModel>(from.bytes(), to.writable_bytes());
        },
        "stream"_a, "out"_a, "two_rates"_a = false);

    m.def(
        "range_encode_integers",
        [](const py::object& values) {
            const BufferView from(values, "values");
            const auto integers = from.as<std::uint32_t>("values");
            for (const std::uint32_t value : integers) {
                if (value == UINT32_MAX) throw py::value_error("values must be below 2^32 - 1");
            }
            range::ExpGolomb<> model;
            return encode_all(integers.size(),
                              [&](auto& coder, std::size_t i) { model.code(coder, integers[i]); });
        },
        "values"_a, "Code uint32 values below 2^32 - 1 by adaptive exp-Golomb codes.");
    m.def(
        "range_decode_integers",
        [](const py::object& stream, const py::object& out) {
            const BufferView from(stream, "stream");
            const BufferView to(out, "out", true);
            const auto integers = to.writable_as<std::uint32_t>("out");
            range::ExpGolomb<> model;
            decode_all(from.bytes(), integers.size(),
                       [&](auto& coder, std::size_t i) { integers[i] = model.code(coder, 0); });
        },
        "stream"_a, "out"_a);
}

}  // namespace nncodec::python
