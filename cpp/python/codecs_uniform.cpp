#include "base/parallel.hpp"
#include "codecs/uniform.hpp"
#include "python/convert.hpp"

namespace nncodec::python {
namespace {

// A plan and the buffers that it reads. Both buffers are released with the GIL held, when Python drops the
// plan.
struct HeldUniform {
    BufferView data;
    std::optional<BufferView> importance;
    std::shared_ptr<ColumnStudy> study;
    std::unique_ptr<UniformPlan> plan;  // its once_flag cannot be moved
};

constexpr std::size_t kElementsAlone = std::size_t{1}
                                       << 19;  // elements from which a part is worth threads of its own

TransformChoice transform_choice(const std::string& name) {
    if (name == "none") return TransformChoice::none;
    if (name == "klt") return TransformChoice::klt;
    if (name == "auto") return TransformChoice::automatic;
    throw py::value_error("transform must be 'auto', 'none' or 'klt'");
}

// What is kept of a part between the steps that are tried. A part of little use for it has an empty one.
std::shared_ptr<ColumnStudy> make_study(std::uint8_t dtype, const std::vector<Shape>& shapes) {
    if (shapes.size() != 1 || !worth_a_study(scales::matrix_view(shapes[0]), number_format(dtype).bytes))
        return nullptr;
    return std::make_shared<ColumnStudy>();
}

// part: (dtype, shapes, data, name); setting: (step, importance or None, study or None)
py::list make_uniform_plans(const py::sequence& parts, const py::sequence& settings, bool centroid,
                            double strength, bool classes, const std::string& transform,
                            std::size_t threads) {
    if (parts.size() != settings.size()) throw py::value_error("as many settings as parts, please");
    std::vector<std::shared_ptr<HeldUniform>> held;
    std::vector<UniformInput> inputs;
    for (std::size_t i = 0; i < parts.size(); ++i) {
        const auto part = py::cast<py::tuple>(parts[i]);
        const auto setting = py::cast<py::tuple>(settings[i]);
        auto& h =
            held.emplace_back(std::make_shared<HeldUniform>(HeldUniform{{part[2], "data"}, {}, {}, {}}));
        UniformInput& input = inputs.emplace_back();
        input.dtype = static_cast<DType>(py::cast<std::uint8_t>(part[0]));
        input.shapes = py::cast<std::vector<Shape>>(part[1]);
        input.data = h->data.bytes();
        input.name = py::cast<std::string>(part[3]);
        input.step = py::cast<double>(setting[0]);
        if (const py::object weights = setting[1]; !weights.is_none()) {
            h->importance.emplace(weights, "importance");
            input.importance = h->importance->as<float>("importance");
        }
        h->study = py::cast<std::shared_ptr<ColumnStudy>>(setting[2]);
        input.study = h->study.get();
    }
    const UniformOptions options{centroid, strength, classes, transform_choice(transform)};
    {
        const py::gil_scoped_release nogil;
        std::vector<std::size_t> small;
        for (std::size_t i = 0; i < inputs.size(); ++i) {
            if (inputs[i].data.size() < kElementsAlone) {
                small.push_back(i);
            } else {
                held[i]->plan = std::make_unique<UniformPlan>(inputs[i], options, threads);
            }
        }
        parallel_for(small.size(), threads, [&](std::size_t i) {
            held[small[i]]->plan = std::make_unique<UniformPlan>(inputs[small[i]], options, 1);
        });
    }
    py::list out;
    for (auto& h : held) out.append(h);
    return out;
}

// Chunks first .. end of each plan: a list of lists of bytes, coded in parallel over all of them.
py::list encode_uniform_chunks(const std::vector<std::shared_ptr<HeldUniform>>& plans, std::size_t first,
                               std::size_t end, std::size_t threads) {
    std::vector<std::vector<Bytes>> payloads;
    std::vector<std::pair<std::size_t, std::size_t>> jobs;
    for (std::size_t p = 0; p < plans.size(); ++p) {
        const std::size_t last = std::min(end, plans[p]->plan->chunks());
        payloads.emplace_back(last - std::min(first, last));
        for (std::size_t chunk = first; chunk < last; ++chunk) jobs.emplace_back(p, chunk);
    }
    {
        const py::gil_scoped_release nogil;
        parallel_for(jobs.size(), threads, [&](std::size_t i) {
            const auto [p, chunk] = jobs[i];
            payloads[p][chunk - first] = plans[p]->plan->encode_chunk(chunk);
        });
    }
    py::list out;
    for (const auto& chunks : payloads) {
        py::list list;
        for (const Bytes& payload : chunks) list.append(to_bytes(payload));
        out.append(list);
    }
    return out;
}

}  // namespace

void register_codecs_uniform(py::module_& m) {
    py::class_<HeldUniform, std::shared_ptr<HeldUniform>>(m, "UniformPlan",
                                                          "Every decision about one part, made.")
        .def_property_readonly("model", [](const HeldUniform& h) { return to_bytes(h.plan->model()); })
        .def_property_readonly("chunk_elements",
                               [](const HeldUniform& h) { return h.plan->chunk_elements(); })
        .def_property_readonly("chunks", [](const HeldUniform& h) { return h.plan->chunks(); })
        .def_property_readonly("bits", [](const HeldUniform& h) { return h.plan->bits(); })
        .def_property_readonly("squared_error", [](const HeldUniform& h) { return h.plan->squared_error(); });
    py::class_<ColumnStudy, std::shared_ptr<ColumnStudy>>(m, "ColumnStudy",
                                                          "What all steps of a part have in common.");
    m.def("uniform_study", &make_study, "dtype"_a, "shapes"_a,
          "A part's ColumnStudy, empty yet; None where it does not pay.");
    m.def("uniform_plans", &make_uniform_plans, "parts"_a, "settings"_a, "centroid"_a, "strength"_a,
          "classes"_a, "transform"_a = "auto", "threads"_a = 0,
          "Plans for parts (dtype, shapes, data, name) with settings (step, importance or None, study or "
          "None).");
    m.def("uniform_encode", &encode_uniform_chunks, "plans"_a, "first"_a, "end"_a, "threads"_a = 0,
          "Chunks first to end of each plan: a list of lists of bytes.");
    py::class_<UniformDecoder, ChunkDecoder>(m, "UniformDecoder")
        .def_property_readonly("step", &UniformDecoder::step)
        .def_property_readonly("contexts", &UniformDecoder::contexts)
        .def_property_readonly("tables", &UniformDecoder::tables)
        .def_property_readonly("transformed", &UniformDecoder::transformed);
    m.def(
        "uniform_decoder",
        [](std::uint8_t dtype, const std::vector<Shape>& shapes, std::size_t chunk_elements,
           const py::object& model) {
            const BufferView view(model, "model");
            const py::gil_scoped_release nogil;
            return std::make_unique<UniformDecoder>(dtype, shapes, chunk_elements, view.bytes());
        },
        "dtype"_a, "shapes"_a, "chunk_elements"_a, "model"_a, "Decoder of codec 2; checks the model.");
}

}  // namespace nncodec::python
