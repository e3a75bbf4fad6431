#include <utility>

#include "python/convert.hpp"
#include "transform/klt.hpp"
#include "transform/klt_integer.hpp"

namespace nncodec::python {
namespace {

void check_columns(std::size_t n) {
    if (n < klt::kMinColumns || n > klt::kMaxColumns)
        throw py::value_error("columns must be " + std::to_string(klt::kMinColumns) + " to " +
                              std::to_string(klt::kMaxColumns));
}

py::bytes encode(const py::object& moments, std::size_t n, double rows, double floor) {
    check_columns(n);
    const BufferView view(moments, "moments");
    const auto matrix = view.as<double>("moments");
    if (matrix.size() != n * n) throw py::value_error("moments must be n x n doubles");
    if (!(rows > 0) || !(floor > 0)) throw py::value_error("rows and floor must be positive");
    std::vector<double> values(n);
    std::vector<double> vectors(n * n);
    klt::EncodedBasis encoded;
    {
        const py::gil_scoped_release nogil;
        if (!klt::eigenvectors({matrix.begin(), matrix.end()}, n, values, vectors))
            throw ArgumentError("moments have no eigenvectors");
        for (double& value : values) value = (value > 0 ? value : 0) + floor;
        encoded = klt::encode_basis(std::move(vectors), values, n, rows);
    }
    return to_bytes(encoded.bytes);
}

klt::Basis decode(ByteView stream, std::size_t n) {
    ByteReader in(stream);
    klt::Basis basis = klt::decode_basis(in, n);
    in.expect_end("basis");
    return basis;
}

void inverse(const py::object& stream, std::size_t n, const py::object& coefficients, const py::object& out) {
    check_columns(n);
    const BufferView bytes(stream, "stream");
    const BufferView from(coefficients, "coefficients");
    const BufferView to(out, "out", true);
    const auto x = from.as<float>("coefficients");
    const auto y = to.writable_as<float>("out");
    if (x.size() != y.size() || x.size() % n != 0)
        throw py::value_error("coefficients and out must be as many whole rows");
    const py::gil_scoped_release nogil;
    decode(bytes.bytes(), n).inverse(x, y);
}

void inverse_integers(const py::object& stream, std::size_t n, const py::object& coefficients, float unit,
                      const py::object& out) {
    check_columns(n);
    const BufferView bytes(stream, "stream");
    const BufferView from(coefficients, "coefficients");
    const BufferView to(out, "out", true);
    const auto x = from.as<std::int16_t>("coefficients");
    const auto y = to.writable_as<float>("out");
    if (x.size() != y.size() || x.size() % n != 0)
        throw py::value_error("coefficients and out must be as many whole rows");
    const py::gil_scoped_release nogil;
    klt::IntegerBasis(decode(bytes.bytes(), n)).inverse(x, unit, y);
}

}  // namespace

void register_transform_klt(py::module_& m) {
    m.def("klt_encode_basis", &encode, "moments"_a, "n"_a, "rows"_a, "floor"_a,
          "The coded basis of eigenvectors of n x n second moments (float64) of so many rows.");
    m.def("klt_inverse", &inverse, "stream"_a, "n"_a, "coefficients"_a, "out"_a,
          "Rows of n float32 coefficients times the coded basis.");
    m.def("klt_inverse_integers", &inverse_integers, "stream"_a, "n"_a, "coefficients"_a, "unit"_a, "out"_a,
          "Rows of n int16 coefficients times the coded basis in units of 2^-14, times the unit.");
}

}  // namespace nncodec::python
