#include <numeric>

#include "base/parallel.hpp"
#include "codecs/trellis.hpp"
#include "python/convert.hpp"

namespace nncodec::python {
namespace {

// A study and the buffers that it reads, which are released with the GIL held, when Python drops the study.
struct HeldStudy {
    BufferView data;
    std::optional<BufferView> importance;
    std::optional<TrellisStudy> study;
};

struct HeldTrellisPlan {
    std::shared_ptr<HeldStudy> of;  // none: of given levels
    std::optional<TrellisPlan> plan;
};

constexpr std::size_t kBytesAlone = std::size_t{1}
                                    << 20;  // bytes from which a part is worth threads of its own

template <typename Task>
void for_small_and_large(std::span<const std::size_t> sizes, std::size_t threads, Task task) {
    std::vector<std::size_t> small;
    for (std::size_t i = 0; i < sizes.size(); ++i) {
        if (sizes[i] < kBytesAlone) {
            small.push_back(i);
        } else {
            task(i, threads);
        }
    }
    parallel_for(small.size(), threads, [&](std::size_t i) { task(small[i], 1); });
}

TrellisAlphabet alphabet_choice(const std::string& name) {
    if (name == "auto") return TrellisAlphabet::automatic;
    if (name == "plain") return TrellisAlphabet::plain;
    if (name == "both_zero") return TrellisAlphabet::both_zero;
    throw py::value_error("alphabet must be 'auto', 'plain' or 'both_zero'");
}

// part: (dtype, shapes, data, name); setting: (step, importance or None, strength)
py::list make_studies(const py::sequence& parts, const py::sequence& settings, unsigned states,
                      const std::string& alphabet, bool transform, bool layouts, bool classes, bool centroids,
                      std::size_t threads) {
    if (parts.size() != settings.size()) throw py::value_error("as many settings as parts, please");
    const TrellisOptions options{states, alphabet_choice(alphabet), transform, layouts, classes, centroids};
    std::vector<std::shared_ptr<HeldStudy>> held;
    std::vector<TrellisInput> inputs;
    std::vector<double> steps;
    std::vector<double> strengths;
    std::vector<std::size_t> sizes;
    std::vector<std::size_t> elements;
    for (std::size_t i = 0; i < parts.size(); ++i) {
        const auto part = py::cast<py::tuple>(parts[i]);
        const auto setting = py::cast<py::tuple>(settings[i]);
        auto& h = held.emplace_back(std::make_shared<HeldStudy>(HeldStudy{{part[2], "data"}, {}, {}}));
        TrellisInput& input = inputs.emplace_back();
        input.dtype = static_cast<DType>(py::cast<std::uint8_t>(part[0]));
        input.shapes = py::cast<std::vector<Shape>>(part[1]);
        input.data = h->data.bytes();
        input.name = py::cast<std::string>(part[3]);
        steps.push_back(py::cast<double>(setting[0]));
        strengths.push_back(py::cast<double>(setting[2]));
        if (!(strengths.back() >= 0.1) || !(strengths.back() <= 10))
            throw py::value_error("strength must be from 0.1 to 10");
        sizes.push_back(input.data.size());
        elements.push_back(input.data.size() / number_format(static_cast<std::uint8_t>(input.dtype)).bytes);
        if (const py::object weights = setting[1]; !weights.is_none()) {
            h->importance.emplace(weights, "importance");
            input.importance = h->importance->as<float>("importance");
        }
    }
    // A million elements of all parts tell size and error to a thousandth.
    constexpr double kSample = 1 << 20;
    const double part_of_all =
        std::min(1.0, kSample / std::max(1.0, static_cast<double>(std::accumulate(
                                                  elements.begin(), elements.end(), std::size_t{0}))));
    {
        const py::gil_scoped_release nogil;
        for_small_and_large(sizes, threads, [&](std::size_t i, std::size_t n) {
            TrellisOptions of = options;
            of.strength = strengths[i];
            of.sample = static_cast<std::size_t>(part_of_all * static_cast<double>(elements[i]));
            held[i]->study.emplace(inputs[i], of, steps[i], n);
        });
    }
    py::list out;
    for (auto& h : held) out.append(h);
    return out;
}

std::vector<std::size_t> sizes_of(const std::vector<std::shared_ptr<HeldStudy>>& studies) {
    std::vector<std::size_t> sizes;
    for (const auto& h : studies) sizes.push_back(h->data.bytes().size());
    return sizes;
}

py::list try_steps(const std::vector<std::shared_ptr<HeldStudy>>& studies, const std::vector<double>& steps,
                   std::size_t threads) {
    if (studies.size() != steps.size()) throw py::value_error("as many steps as studies, please");
    std::vector<TrellisTrial> trials(studies.size());
    {
        const py::gil_scoped_release nogil;
        for_small_and_large(sizes_of(studies), threads, [&](std::size_t i, std::size_t n) {
            trials[i] = studies[i]->study->trial(steps[i], n);
        });
    }
    py::list out;
    for (const TrellisTrial& trial : trials) out.append(py::make_tuple(trial.bits, trial.squared_error));
    return out;
}

py::list make_trellis_plans(const std::vector<std::shared_ptr<HeldStudy>>& studies,
                            const std::vector<double>& steps, std::size_t threads) {
    if (studies.size() != steps.size()) throw py::value_error("as many steps as studies, please");
    std::vector<std::shared_ptr<HeldTrellisPlan>> plans;
    for (const auto& study : studies)
        plans.push_back(std::make_shared<HeldTrellisPlan>(HeldTrellisPlan{study, {}}));
    {
        const py::gil_scoped_release nogil;
        for_small_and_large(sizes_of(studies), threads, [&](std::size_t i, std::size_t n) {
            plans[i]->plan.emplace(*studies[i]->study, steps[i], n);
        });
    }
    py::list out;
    for (auto& plan : plans) out.append(plan);
    return out;
}

std::shared_ptr<HeldTrellisPlan> plan_of_levels(
    std::uint8_t dtype, const Shape& shape, const py::object& levels, float step, unsigned states,
    const std::string& alphabet, bool by_columns, unsigned row_dimensions, unsigned lanes,
    std::size_t chunk_elements, const std::vector<std::int8_t>& row_steps,
    const std::vector<std::int8_t>& column_steps, std::size_t threads) {
    if (alphabet == "auto") throw py::value_error("alphabet must be 'plain' or 'both_zero'");
    const BufferView view(levels, "levels");
    TrellisPlan::Given given;
    given.dtype = static_cast<DType>(dtype);
    given.shape = shape;
    given.levels = view.as<std::int16_t>("levels");
    given.step = step;
    given.states = states;
    given.alphabet = alphabet_choice(alphabet) == TrellisAlphabet::plain ? trellis::Alphabet::plain
                                                                         : trellis::Alphabet::both_zero;
    given.by_columns = by_columns;
    given.row_dimensions = row_dimensions;
    given.lanes = lanes;
    given.chunk_elements = chunk_elements;
    given.row_steps = row_steps;
    given.column_steps = column_steps;
    const py::gil_scoped_release nogil;
    auto plan = std::make_shared<HeldTrellisPlan>();
    plan->plan.emplace(given, threads);
    return plan;
}

// Chunks first .. end of each plan: a list of lists of bytes, coded in parallel over all of them.
py::list encode_trellis_chunks(const std::vector<std::shared_ptr<HeldTrellisPlan>>& plans, std::size_t first,
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

std::string transform_of(const trellis_codec::Model& model) {
    if (model.basis && model.basis_of_columns) return "klt";
    bool basis = false;
    bool cosines = false;
    for (const auto& tensor : model.tensors) {
        basis = basis || tensor.kernels == trellis_codec::Kernels::basis;
        cosines = cosines || tensor.kernels == trellis_codec::Kernels::cosines;
    }
    if (basis) return cosines ? "kernel klt, dct" : "kernel klt";
    return cosines ? "dct" : "none";
}

}  // namespace

void register_codecs_trellis(py::module_& m) {
    py::class_<HeldStudy, std::shared_ptr<HeldStudy>>(m, "TrellisStudy",
                                                      "What is decided about a part before its step.");
    py::class_<HeldTrellisPlan, std::shared_ptr<HeldTrellisPlan>>(m, "TrellisPlan",
                                                                  "Levels and tables of one part.")
        .def_property_readonly("model", [](const HeldTrellisPlan& h) { return to_bytes(h.plan->model()); })
        .def_property_readonly("chunk_elements",
                               [](const HeldTrellisPlan& h) { return h.plan->chunk_elements(); })
        .def_property_readonly("chunks", [](const HeldTrellisPlan& h) { return h.plan->chunks(); })
        .def_property_readonly("version", [](const HeldTrellisPlan& h) { return h.plan->version(); })
        .def_property_readonly("bits", [](const HeldTrellisPlan& h) { return h.plan->bits(); })
        .def_property_readonly("squared_error",
                               [](const HeldTrellisPlan& h) { return h.plan->squared_error(); });
    m.def("trellis_studies", &make_studies, "parts"_a, "settings"_a, "states"_a = 256, "alphabet"_a = "auto",
          "transform"_a = true, "layouts"_a = true, "classes"_a = true, "centroids"_a = true, "threads"_a = 0,
          "Studies of parts (dtype, shapes, data, name) at settings (step, importance or None, strength).");
    m.def("trellis_trials", &try_steps, "studies"_a, "steps"_a, "threads"_a = 0,
          "(bits, squared error) that each step would give.");
    m.def("trellis_plans", &make_trellis_plans, "studies"_a, "steps"_a, "threads"_a = 0,
          "Plans at these steps.");
    m.def("trellis_plan_of_levels", &plan_of_levels, "dtype"_a, "shape"_a, "levels"_a, "step"_a, "states"_a,
          "alphabet"_a, "by_columns"_a, "row_dimensions"_a, "lanes"_a, "chunk_elements"_a,
          "row_steps"_a = std::vector<std::int8_t>{}, "column_steps"_a = std::vector<std::int8_t>{},
          "threads"_a = 0, "A plan of one tensor whose levels (int16, row-major) were chosen elsewhere.");
    m.def("trellis_encode", &encode_trellis_chunks, "plans"_a, "first"_a, "end"_a, "threads"_a = 0,
          "Chunks first to end of each plan: a list of lists of bytes.");
    py::class_<TrellisDecoder, ChunkDecoder>(m, "TrellisDecoder")
        .def_property_readonly("step", [](const TrellisDecoder& d) { return d.model().step; })
        .def_property_readonly("states", [](const TrellisDecoder& d) { return d.model().code.states; })
        .def_property_readonly("classes", [](const TrellisDecoder& d) { return d.model().classes(); })
        .def_property_readonly("parametric", [](const TrellisDecoder& d) { return d.model().parametric; })
        .def_property_readonly("alphabet",
                               [](const TrellisDecoder& d) {
                                   return d.model().alphabet == trellis::Alphabet::plain ? "plain"
                                                                                         : "both_zero";
                               })
        .def_property_readonly("transform", [](const TrellisDecoder& d) { return transform_of(d.model()); });
    m.def(
        "trellis_decoder",
        [](std::uint8_t dtype, const std::vector<Shape>& shapes, std::size_t chunk_elements,
           const py::object& model, unsigned version) {
            const BufferView view(model, "model");
            const py::gil_scoped_release nogil;
            return std::make_unique<TrellisDecoder>(dtype, shapes, chunk_elements, view.bytes(), version);
        },
        "dtype"_a, "shapes"_a, "chunk_elements"_a, "model"_a, "version"_a,
        "Decoder of codec 3, payload version 1 or 2; checks the model.");
}

}  // namespace nncodec::python
