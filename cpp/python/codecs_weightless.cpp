#include <algorithm>

#include "base/parallel.hpp"
#include "codecs/weightless.hpp"
#include "python/convert.hpp"

namespace nncodec::python {
namespace {

using weightless::Key;
using weightless::Model;
using weightless::Structure;

// A plan and the buffer that it reads, released with the GIL held when Python drops the plan.
struct HeldWeightless {
    BufferView data;
    std::optional<WeightlessPlan> plan;
};

Model make_model(const std::string& structure, unsigned bits, unsigned words, bool exact, bool packed) {
    Model model;
    if (structure != "ribbon" && structure != "bloomier")
        throw py::value_error("structure must be 'ribbon' or 'bloomier'");
    model.structure = structure == "ribbon" ? Structure::ribbon : Structure::bloomier;
    if (packed && model.structure == Structure::ribbon) throw py::value_error("a ribbon cannot be packed");
    model.bits = bits;
    model.words = words;
    model.exact = exact;
    model.packed = packed;
    return model;
}

std::shared_ptr<HeldWeightless> make_weightless_plan(std::uint8_t dtype, const py::object& data,
                                                     const py::object& values, const Model& model,
                                                     std::uint64_t seed, const std::string& name) {
    auto held = std::make_shared<HeldWeightless>(HeldWeightless{{data, "data"}, {}});
    const BufferView levels(values, "values");
    held->plan.emplace(dtype, held->data.bytes(), levels.bytes(), model, seed, name);
    return held;
}

py::list to_list(const std::vector<Bytes>& payloads) {
    py::list out;
    for (const Bytes& payload : payloads) out.append(to_bytes(payload));
    return out;
}

py::list encode_weightless_chunks(const HeldWeightless& held, std::size_t first, std::size_t end,
                                  std::size_t threads) {
    end = std::min(end, held.plan->chunks());
    std::vector<Bytes> payloads(end - std::min(first, end));
    {
        const py::gil_scoped_release nogil;
        parallel_for(payloads.size(), threads,
                     [&](std::size_t i) { payloads[i] = held.plan->encode_chunk(first + i); });
    }
    return to_list(payloads);
}

// Payloads of chunks of `positions` positions each from their keys: chunk c has keys offsets[c] .. offsets[c
// + 1].
py::list build_payloads(const py::object& keys, const py::object& codes,
                        const std::vector<std::size_t>& offsets, std::size_t positions, Model model,
                        std::uint32_t values, std::uint64_t seed, std::size_t threads) {
    const BufferView key_view(keys, "keys");
    const BufferView code_view(codes, "codes");
    const auto all = key_view.as<Key>("keys");
    const auto of = code_view.as<std::uint16_t>("codes");
    if (of.size() != all.size()) throw py::value_error("as many codes as keys, please");
    if (offsets.empty() || offsets.back() > all.size() || !std::is_sorted(offsets.begin(), offsets.end()))
        throw py::value_error("offsets must ascend and end within the keys");
    model.values = values;
    std::vector<Bytes> payloads(offsets.size() - 1);
    {
        const py::gil_scoped_release nogil;
        parallel_for(payloads.size(), threads, [&](std::size_t i) {
            const std::size_t n = offsets[i + 1] - offsets[i];
            payloads[i] = weightless::encode_chunk(model, all.subspan(offsets[i], n),
                                                   of.subspan(offsets[i], n), positions, seed);
        });
    }
    return to_list(payloads);
}

// How many positions of all payloads are not zero, every position looked up.
std::size_t count_hits(const py::list& payloads, std::size_t positions, Model model, std::uint32_t values,
                       std::size_t threads) {
    std::vector<BufferView> views;
    for (const py::handle payload : payloads) views.emplace_back(payload, "payload");
    std::vector<std::size_t> counts(views.size());
    model.values = values;
    {
        const py::gil_scoped_release nogil;
        parallel_for(views.size(), threads, [&](std::size_t i) {
            thread_local std::vector<retrieval::Hit> found;
            found.clear();
            weightless::Chunk(model, views[i].bytes(), positions).hits(found);
            counts[i] = found.size();
        });
    }
    std::size_t total = 0;
    for (const std::size_t count : counts) total += count;
    return total;
}

// Positions first[i] .. first[i + 1] lie in chunk chunks[i].
void look_up(const WeightlessDecoder& decoder, const std::vector<std::size_t>& chunks,
             const py::list& payloads, const std::vector<std::size_t>& first, const py::object& positions,
             const py::object& out) {
    std::vector<BufferView> views;
    for (const py::handle payload : payloads) views.emplace_back(payload, "payload");
    const BufferView at(positions, "positions");
    const BufferView to(out, "out", true);
    const auto keys = at.as<Key>("positions");
    const auto elements = to.writable_bytes();
    if (views.size() != chunks.size() || first.size() != chunks.size() + 1 || first.front() != 0 ||
        first.back() != keys.size() || !std::is_sorted(first.begin(), first.end()))
        throw py::value_error("chunks, payloads and places must belong together");
    const std::size_t size = decoder.element_bytes();
    if (elements.size() != keys.size() * size) throw py::value_error("as many elements as positions, please");
    const py::gil_scoped_release nogil;
    for (std::size_t i = 0; i < chunks.size(); ++i) {
        const std::size_t n = first[i + 1] - first[i];
        decoder.look_up(chunks[i], views[i].bytes(), keys.subspan(first[i], n),
                        elements.subspan(first[i] * size, n * size));
    }
}

}  // namespace

void register_codecs_weightless(py::module_& m) {
    py::class_<Model>(m, "WeightlessModel", "Structure and cells of codec 7.")
        .def(py::init(&make_model), "structure"_a, "bits"_a, "words"_a = 4, "exact"_a = false,
             "packed"_a = false);
    py::class_<HeldWeightless, std::shared_ptr<HeldWeightless>>(m, "WeightlessPlan",
                                                                "A part, and the value of each weight.")
        .def_property_readonly("model", [](const HeldWeightless& h) { return to_bytes(h.plan->model()); })
        .def_property_readonly("chunk_elements",
                               [](const HeldWeightless& h) { return h.plan->chunk_elements(); })
        .def_property_readonly("chunks", [](const HeldWeightless& h) { return h.plan->chunks(); });
    m.def("weightless_plan", &make_weightless_plan, "dtype"_a, "data"_a, "values"_a, "model"_a, "seed"_a,
          "name"_a, "A plan for a part with these distinct values (of the part's element type, ascending).");
    m.def("weightless_encode", &encode_weightless_chunks, "plan"_a, "first"_a, "end"_a, "threads"_a = 0,
          "Chunks first to end of a plan: a list of bytes.");
    m.def("weightless_build", &build_payloads, "keys"_a, "codes"_a, "offsets"_a, "positions"_a, "model"_a,
          "values"_a, "seed"_a = 0, "threads"_a = 0,
          "Payloads of chunks from positions (uint32) and codes (uint16).");
    m.def("weightless_count", &count_hits, "payloads"_a, "positions"_a, "model"_a, "values"_a,
          "threads"_a = 0, "How many positions of these chunks are not zero.");
    py::class_<WeightlessDecoder, ChunkDecoder>(m, "WeightlessDecoder")
        .def("look_up", &look_up, "chunks"_a, "payloads"_a, "first"_a, "positions"_a, "out"_a,
             "Elements of some chunks at positions (uint32), those of chunk i from number first[i] on, into "
             "`out`.")
        .def_property_readonly("values", [](const WeightlessDecoder& d) { return d.model().values; })
        .def_property_readonly("bits", [](const WeightlessDecoder& d) { return d.model().bits; })
        .def_property_readonly("exact", [](const WeightlessDecoder& d) { return d.model().exact; })
        .def_property_readonly("packed", [](const WeightlessDecoder& d) { return d.model().packed; })
        .def_property_readonly("structure", [](const WeightlessDecoder& d) {
            return d.model().structure == Structure::ribbon ? "ribbon" : "bloomier";
        });
    m.def(
        "weightless_decoder",
        [](std::uint8_t dtype, std::size_t elements, std::size_t chunk_elements, const py::object& model) {
            const BufferView view(model, "model");
            return std::make_unique<WeightlessDecoder>(dtype, elements, chunk_elements, view.bytes());
        },
        "dtype"_a, "elements"_a, "chunk_elements"_a, "model"_a, "Decoder of codec 7; checks the model.");
}

}  // namespace nncodec::python
