#include "codecs/transform.hpp"
#include "entropy/bzip2.hpp"
#include "python/convert.hpp"
#include "python/encode_chunks.hpp"
#include "transform/hadamard.hpp"

namespace nncodec::python {
namespace {

// A plan and the buffers that it reads, released with the GIL held.
struct HeldTransform {
    BufferView data;
    std::optional<BufferView> importance;
    std::optional<TransformPlan> plan;
};

using Choice = std::tuple<std::uint8_t, std::uint8_t, std::uint8_t>;  // kind, height, width

// part: (dtype, shape, data, name); setting: (step, importance or None)
std::shared_ptr<HeldTransform> make_transform_plan(const py::tuple& part, const py::tuple& setting,
                                                   const std::vector<Choice>& choices, std::size_t threads) {
    auto held = std::make_shared<HeldTransform>(HeldTransform{{part[2], "data"}, {}, {}});
    TransformInput input;
    input.dtype = static_cast<DType>(py::cast<std::uint8_t>(part[0]));
    input.shape = py::cast<Shape>(part[1]);
    input.data = held->data.bytes();
    input.name = py::cast<std::string>(part[3]);
    input.step = py::cast<double>(setting[0]);
    if (const py::object weights = setting[1]; !weights.is_none()) {
        held->importance.emplace(weights, "importance");
        input.importance = held->importance->as<float>("importance");
    }
    std::vector<blocks::Transform> transforms;
    for (const auto& [kind, height, width] : choices)
        transforms.push_back({static_cast<blocks::Kind>(kind), height, width});
    const py::gil_scoped_release nogil;
    held->plan.emplace(input, transforms, threads);
    return held;
}

}  // namespace

void register_codecs_transform(py::module_& m) {
    m.def(
        "hadamard",
        [](const py::object& numbers, std::size_t length) {
            const BufferView view(numbers, "numbers", true);
            const auto x = view.writable_as<float>("numbers");
            const py::gil_scoped_release nogil;
            hadamard::transform(x, length);
        },
        "numbers"_a, "length"_a,
        "Orthonormal Hadamard transform of float32 runs of 2, 4 ... 64 numbers, in place.");
    m.def(
        "bzip2_decode",
        [](const py::object& stream, const py::object& out) {
            const BufferView view(stream, "stream");
            const BufferView to(out, "out", true);
            const py::gil_scoped_release nogil;
            bzip2::decode(view.bytes(), to.writable_bytes());
        },
        "stream"_a, "out"_a, "Fill `out` from a bzip2 stream that makes as many bytes.");
    py::class_<HeldTransform, std::shared_ptr<HeldTransform>>(m, "TransformPlan",
                                                              "One tensor, transformed and coded.")
        .def(py::init(&make_transform_plan), "part"_a, "setting"_a, "choices"_a, "threads"_a)
        .def_property_readonly("model", [](const HeldTransform& h) { return to_bytes(h.plan->model()); })
        .def_property_readonly("chunk_elements",
                               [](const HeldTransform& h) { return h.plan->chunk_elements(); })
        .def_property_readonly("chunks", [](const HeldTransform& h) { return h.plan->chunks(); })
        .def_property_readonly("bits", [](const HeldTransform& h) { return h.plan->bits(); })
        .def_property_readonly("squared_error",
                               [](const HeldTransform& h) { return h.plan->squared_error(); })
        .def("encode", &encode_chunks<HeldTransform>, "first"_a, "end"_a, "threads"_a = 0,
             "Payloads of the chunks first to end, coded in parallel.");
    m.def(
        "transform_decoder",
        [](std::uint8_t dtype, const std::vector<Shape>& shapes, std::size_t chunk_elements,
           const py::object& model) -> std::unique_ptr<ChunkDecoder> {
            const BufferView view(model, "model");
            return std::make_unique<TransformDecoder>(dtype, shapes, chunk_elements, view.bytes());
        },
        "dtype"_a, "shapes"_a, "chunk_elements"_a, "model"_a, "Decoder of one record of codec 6.");
}

}  // namespace nncodec::python
