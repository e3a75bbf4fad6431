#include "codecs/lowrank.hpp"
#include "python/convert.hpp"
#include "transform/low_rank.hpp"

namespace nncodec::python {
namespace {

// (left, scales, right, singular values): bytes of float32, float32, float32 and float64
py::tuple decompose(std::uint8_t dtype, const py::object& data, std::size_t rows, std::size_t columns,
                    std::size_t rank, double energy) {
    const BufferView view(data, "data");
    low_rank::Factors factors;
    std::vector<double> values;
    {
        const py::gil_scoped_release nogil;
        const FloatSource source(static_cast<DType>(dtype), view.bytes());
        std::vector<double> numbers(source.size());
        source.load(0, numbers);
        for (const double x : numbers) {
            if (!std::isfinite(x)) throw ArgumentError("NaN or infinite elements have no factors");
        }
        factors = low_rank::decompose(numbers, rows, columns, {rank, energy}, values);
    }
    const auto raw = [](const auto& numbers) {
        return py::bytes(reinterpret_cast<const char*>(numbers.data()), numbers.size() * sizeof numbers[0]);
    };
    return py::make_tuple(raw(factors.left), raw(factors.scales), raw(factors.right), raw(values));
}

void product(const py::object& left, const py::object& scales, const py::object& right, std::size_t columns,
             const py::object& out) {
    const BufferView l(left, "left");
    const BufferView s(scales, "scales");
    const BufferView r(right, "right");
    const BufferView o(out, "out", true);
    const auto a = l.as<float>("left");
    const auto d = s.as<float>("scales");
    const auto b = r.as<float>("right");
    const auto to = o.writable_as<double>("out");
    if (d.empty() || columns == 0 || b.size() != d.size() * columns || a.size() % d.size() != 0 ||
        to.size() != a.size() / d.size() * columns)
        throw py::value_error("left is rows x rank, scales rank, right rank x columns, out rows x columns");
    const py::gil_scoped_release nogil;
    low_rank::product(a, d, b, columns, 0, to);
}

}  // namespace

void register_codecs_lowrank(py::module_& m) {
    m.def("low_rank_decompose", &decompose, "dtype"_a, "data"_a, "rows"_a, "columns"_a, "rank"_a, "energy"_a,
          "Left factor, scales, right factor (float32) and all singular values (float64) of a matrix.");
    m.def("low_rank_product", &product, "left"_a, "scales"_a, "right"_a, "columns"_a, "out"_a,
          "Fill `out` (float64) with the product of float32 factors.");
    m.def(
        "lowrank_model",
        [](std::uint8_t codec, const py::object& scales, std::size_t chunk_elements,
           const py::object& inner_model, const std::vector<py::bytes>& payloads) {
            const BufferView s(scales, "scales");
            const BufferView inner(inner_model, "inner_model");
            std::vector<BufferView> held;
            std::vector<ByteView> views;
            held.reserve(payloads.size());
            for (const py::bytes& payload : payloads)
                views.push_back(held.emplace_back(payload, "payloads").bytes());
            return to_bytes(
                lowrank::write_model(codec, s.as<float>("scales"), chunk_elements, inner.bytes(), views));
        },
        "codec"_a, "scales"_a, "chunk_elements"_a, "inner_model"_a, "payloads"_a,
        "The model of a record of codec 9 whose factors are coded.");
    py::class_<LowRankDecoder, ChunkDecoder>(m, "LowRankDecoder")
        .def_property_readonly("rank", &LowRankDecoder::rank);
    m.def(
        "lowrank_decoder",
        [](std::uint8_t dtype, const std::vector<Shape>& shapes, std::size_t chunk_elements,
           const py::object& model) {
            const BufferView view(model, "model");
            const py::gil_scoped_release nogil;
            return std::make_unique<LowRankDecoder>(dtype, shapes, chunk_elements, view.bytes());
        },
        "dtype"_a, "shapes"_a, "chunk_elements"_a, "model"_a, "Decoder of codec 9; checks the model.");
}

}  // namespace nncodec::python
