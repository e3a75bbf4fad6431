#include "base/parallel.hpp"
#include "codecs/universal.hpp"
#include "python/convert.hpp"

namespace nncodec::python {

lattice::Lattice lattice_named(const std::string& name);  // quantize_lattice.cpp

namespace {

// A plan and the buffers that it reads, released with the GIL held.
struct HeldUniversal {
    BufferView data;
    std::optional<BufferView> importance;
    std::optional<UniversalPlan> plan;
};

universal::Coder coder_named(const std::string& name) {
    constexpr std::array<const char*, universal::kCoders> kNames{"mixing", "lzw", "deflate", "bzip2", "lzma"};
    for (unsigned i = 0; i < kNames.size(); ++i) {
        if (name == kNames[i]) return static_cast<universal::Coder>(i);
    }
    throw py::value_error("coder must be 'mixing', 'lzw', 'deflate', 'bzip2' or 'lzma', got '" + name + "'");
}

DitherMode dither_named(const std::string& name) {
    if (name == "off") return DitherMode::off;
    if (name == "on") return DitherMode::on;
    if (name == "auto") return DitherMode::automatic;
    throw py::value_error("dither must be 'off', 'on' or 'auto', got '" + name + "'");
}

// part: (dtype, shapes, data, name, key); setting: (step, importance or None)
py::list make_universal_plans(const py::sequence& parts, const py::sequence& settings,
                              const std::string& lattice_name, const std::string& dither,
                              const std::string& coder, std::size_t dimension, bool centroid, bool exact,
                              const py::object& table, std::size_t threads) {
    if (parts.size() != settings.size()) throw py::value_error("as many settings as parts, please");
    UniversalOptions options;
    options.lattice = lattice_named(lattice_name);
    options.dither = dither_named(dither);
    options.coder = coder_named(coder);
    options.dimension = dimension;
    options.centroid = centroid;
    options.exact = exact;
    std::optional<BufferView> table_view;
    if (!table.is_none()) {
        table_view.emplace(table, "table");
        options.table = table_view->as<float>("table");
    }
    std::vector<std::shared_ptr<HeldUniversal>> held;
    std::vector<UniformInput> inputs;
    std::vector<UniversalOptions> of_part;
    for (std::size_t i = 0; i < parts.size(); ++i) {
        const auto part = py::cast<py::tuple>(parts[i]);
        const auto setting = py::cast<py::tuple>(settings[i]);
        auto& h =
            held.emplace_back(std::make_shared<HeldUniversal>(HeldUniversal{{part[2], "data"}, {}, {}}));
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
        options.key = py::cast<std::uint64_t>(part[4]);
        of_part.push_back(options);
    }
    {
        const py::gil_scoped_release nogil;
        parallel_for(inputs.size(), threads,
                     [&](std::size_t i) { held[i]->plan.emplace(inputs[i], of_part[i], threads); });
    }
    py::list out;
    for (auto& h : held) out.append(h);
    return out;
}

py::list encode_universal_chunks(const std::vector<std::shared_ptr<HeldUniversal>>& plans, std::size_t first,
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

// A Python function (coder, stream, size) -> bytes as the engine's; it may be called on any thread.
universal::Unpack unpack_by(const py::object& function) {
    // The decoder may be dropped where the GIL is not held.
    const std::shared_ptr<py::object> held(new py::object(function), [](py::object* object) {
        const py::gil_scoped_acquire gil;
        delete object;
    });
    return [held](universal::Coder coder, ByteView stream, std::size_t size) {
        const py::gil_scoped_acquire gil;
        try {
            const py::object result = (*held)(static_cast<unsigned>(coder), to_bytes(stream), size);
            const BufferView view(result, "unpacked");
            return Bytes(view.bytes().begin(), view.bytes().end());
        } catch (const py::error_already_set& error) {
            throw DecodeError(py::str(error.value()).cast<std::string>());
        }
    };
}

}  // namespace

void register_codecs_universal(py::module_& m) {
    py::class_<HeldUniversal, std::shared_ptr<HeldUniversal>>(m, "UniversalPlan",
                                                              "Every decision about one part, made.")
        .def_property_readonly("model", [](const HeldUniversal& h) { return to_bytes(h.plan->model()); })
        .def_property_readonly("chunk_elements",
                               [](const HeldUniversal& h) { return h.plan->chunk_elements(); })
        .def_property_readonly("chunks", [](const HeldUniversal& h) { return h.plan->chunks(); })
        .def_property_readonly("dithered", [](const HeldUniversal& h) { return h.plan->dithered(); })
        .def_property_readonly("squared_error",
                               [](const HeldUniversal& h) { return h.plan->squared_error(); })
        .def(
            "raw_chunk",
            [](const HeldUniversal& h, std::size_t chunk) {
                universal::Raw raw;
                {
                    const py::gil_scoped_release nogil;
                    raw = h.plan->raw_chunk(chunk);
                }
                return py::make_tuple(to_bytes(raw.head), to_bytes(raw.body));
            },
            "chunk"_a, "What a chunk's payload starts with, and the bytes to pack behind it.");
    m.def("universal_plans", &make_universal_plans, "parts"_a, "settings"_a, "lattice"_a, "dither"_a,
          "coder"_a, "dimension"_a, "centroid"_a, "exact"_a, "table"_a = py::none(), "threads"_a = 0,
          "Plans for parts (dtype, shapes, data, name, key) with settings (step, importance or None).");
    m.def("universal_encode", &encode_universal_chunks, "plans"_a, "first"_a, "end"_a, "threads"_a = 0,
          "Chunks first to end of each plan, for the engine's coders: a list of lists of bytes.");
    py::class_<UniversalDecoder, ChunkDecoder>(m, "UniversalDecoder")
        .def_property_readonly("step", [](const UniversalDecoder& d) { return d.model().step; })
        .def_property_readonly(
            "lattice", [](const UniversalDecoder& d) { return static_cast<unsigned>(d.model().lattice); })
        .def_property_readonly(
            "coder", [](const UniversalDecoder& d) { return static_cast<unsigned>(d.model().coder); })
        .def_property_readonly("dithered", [](const UniversalDecoder& d) { return d.model().dithered; })
        .def_property_readonly("masked", [](const UniversalDecoder& d) { return d.model().masked; })
        .def_property_readonly("rows", [](const UniversalDecoder& d) {
            return d.model().table == universal::Table::none ? 0 : d.model().rows();
        });
    m.def(
        "universal_decoder",
        [](std::uint8_t dtype, std::size_t elements, std::size_t chunk_elements, const py::object& model,
           const py::object& unpack) {
            const BufferView view(model, "model");
            universal::Unpack function;
            if (!unpack.is_none()) function = unpack_by(unpack);
            const py::gil_scoped_release nogil;
            return std::make_unique<UniversalDecoder>(dtype, elements, chunk_elements, view.bytes(),
                                                      std::move(function));
        },
        "dtype"_a, "elements"_a, "chunk_elements"_a, "model"_a, "unpack"_a = py::none(),
        "Decoder of codec 4; checks the model. unpack(coder, stream, size) serves coders 2 to 4.");
}

}  // namespace nncodec::python
