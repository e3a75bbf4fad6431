#include "codecs/codebook.hpp"
#include "python/convert.hpp"
#include "python/encode_chunks.hpp"

namespace nncodec::python {
namespace {

// A plan and the buffers that it reads, released with the GIL held.
struct HeldCodebook {
    BufferView data, entries, indices;
    std::optional<CodebookPlan> plan;
};

// part: (dtype, shapes, data, name, dimension, entries, indices)
std::shared_ptr<HeldCodebook> make_codebook_plan(const py::tuple& part, bool classes, std::size_t threads) {
    auto held = std::make_shared<HeldCodebook>(
        HeldCodebook{{part[2], "data"}, {part[5], "entries"}, {part[6], "indices"}, {}});
    CodebookInput input;
    input.dtype = static_cast<DType>(py::cast<std::uint8_t>(part[0]));
    input.shapes = py::cast<std::vector<Shape>>(part[1]);
    input.data = held->data.bytes();
    input.name = py::cast<std::string>(part[3]);
    input.dimension = py::cast<unsigned>(part[4]);
    input.entries = held->entries.bytes();
    input.indices = held->indices.as<std::uint16_t>("indices");
    input.classes = classes;
    const py::gil_scoped_release nogil;
    held->plan.emplace(input, threads);
    return held;
}

}  // namespace

void register_codecs_codebook(py::module_& m) {
    py::class_<HeldCodebook, std::shared_ptr<HeldCodebook>>(m, "CodebookPlan",
                                                            "A coded codebook and its indices.")
        .def(py::init(&make_codebook_plan), "part"_a, "classes"_a, "threads"_a)
        .def_property_readonly("model", [](const HeldCodebook& h) { return to_bytes(h.plan->model()); })
        .def_property_readonly("chunk_elements",
                               [](const HeldCodebook& h) { return h.plan->chunk_elements(); })
        .def_property_readonly("chunks", [](const HeldCodebook& h) { return h.plan->chunks(); })
        .def("encode", &encode_chunks<HeldCodebook>, "first"_a, "end"_a, "threads"_a = 0,
             "Payloads of the chunks first to end, coded in parallel.");
    m.def(
        "codebook_decoder",
        [](std::uint8_t dtype, const std::vector<Shape>& shapes, std::size_t chunk_elements,
           const py::object& model) -> std::unique_ptr<ChunkDecoder> {
            const BufferView view(model, "model");
            return std::make_unique<CodebookDecoder>(dtype, shapes, chunk_elements, view.bytes());
        },
        "dtype"_a, "shapes"_a, "chunk_elements"_a, "model"_a, "Decoder of one record of codec 5.");
}

}  // namespace nncodec::python
