#include <memory>

#include "base/parallel.hpp"
#include "codecs/ternary.hpp"
#include "python/convert.hpp"

namespace nncodec::python {
namespace {

ternary::Coding coding_of(const std::string& layout, const std::string& entropy) {
    if (layout != "planar" && layout != "consecutive") {
        throw py::value_error("layout must be 'planar' or 'consecutive'");
    }
    if (entropy != "zero_run" && entropy != "rans")
        throw py::value_error("entropy must be 'zero_run' or 'rans'");
    return {layout == "planar" ? ternary::Layout::planar : ternary::Layout::consecutive,
            entropy == "rans" ? ternary::Entropy::rans : ternary::Entropy::zero_run};
}

// An encoder and the buffer that it reads; released with the GIL held.
struct HeldEncoder {
    BufferView data;
    std::optional<ternary::Encoder> encoder;
};

py::list make_encoders(const py::sequence& parts, float sparsity_multiplier, const std::string& layout,
                       const std::string& entropy, std::size_t block, std::size_t threads) {
    const ternary::Coding coding = coding_of(layout, entropy);
    std::vector<std::shared_ptr<HeldEncoder>> held;
    std::vector<ternary::EncoderInput> inputs;
    for (const py::handle item : parts) {
        const auto part = py::cast<py::tuple>(item);
        auto& h = held.emplace_back(std::make_shared<HeldEncoder>(HeldEncoder{{part[1], "data"}, {}}));
        inputs.push_back({static_cast<DType>(py::cast<std::uint8_t>(part[0])), h->data.bytes(),
                          sparsity_multiplier, block, coding, py::cast<std::string>(part[2])});
    }
    {
        const py::gil_scoped_release nogil;
        parallel_for(inputs.size(), threads, [&](std::size_t i) { held[i]->encoder.emplace(inputs[i]); });
    }
    py::list out;
    for (auto& h : held) out.append(h);
    return out;
}

py::list encode_ternary_chunks(const HeldEncoder& held, std::size_t first, std::size_t end,
                               std::size_t threads) {
    const std::size_t last = std::min(end, held.encoder->chunks());
    std::vector<Bytes> payloads(last - std::min(first, last));
    {
        const py::gil_scoped_release nogil;
        parallel_for(payloads.size(), threads,
                     [&](std::size_t i) { payloads[i] = held.encoder->encode_chunk(first + i); });
    }
    py::list out;
    for (const Bytes& payload : payloads) out.append(to_bytes(payload));
    return out;
}

struct Elements {
    DType dtype;
    std::size_t n;
};

Elements elements_of(const BufferView& view, std::uint8_t code, const char* name) {
    const auto dtype = static_cast<DType>(code);
    if (!ternary::is_supported(dtype)) throw py::value_error("dtype must be float32, float16 or bfloat16");
    return {dtype,
            dtype == DType::float32 ? view.as<float>(name).size() : view.as<std::uint16_t>(name).size()};
}

py::object compress(const py::object& values, std::uint8_t dtype, const py::object& residual,
                    float sparsity_multiplier, const std::string& layout, const std::string& entropy) {
    const BufferView view(values, "values");
    const Elements elements = elements_of(view, dtype, "values");
    const ternary::Coding coding = coding_of(layout, entropy);
    if (!(sparsity_multiplier >= 1) || !(sparsity_multiplier < 2)) {
        throw py::value_error("sparsity_multiplier must be at least 1 and below 2");
    }
    std::optional<BufferView> residual_view;
    float* kept = nullptr;
    if (!residual.is_none()) {
        residual_view.emplace(residual, "residual", true);
        const auto floats = residual_view->writable_as<float>("residual");
        if (floats.size() != elements.n)
            throw py::value_error("residual must have as many elements as values");
        kept = floats.data();
    }
    Bytes out;
    bool finite = false;
    {
        const py::gil_scoped_release nogil;
        finite = ternary::write_message(elements.dtype, view.bytes().data(), kept, elements.n,
                                        sparsity_multiplier, coding, out);
    }
    if (!finite) return py::none();
    return to_bytes(out);
}

py::bytes compress_raw(const py::object& values, std::uint8_t dtype) {
    const BufferView view(values, "values");
    const Elements elements = elements_of(view, dtype, "values");
    Bytes out;
    ternary::write_raw_message(elements.dtype, view.bytes().data(), elements.n, out);
    return to_bytes(out);
}

void decompress(const py::object& message, const py::object& out, std::uint8_t dtype, float weight,
                bool accumulate) {
    const BufferView from(message, "message");
    const BufferView to(out, "out", true);
    const Elements elements = elements_of(to, dtype, "out");
    const py::gil_scoped_release nogil;
    ternary::read_message(from.bytes(), elements.dtype, elements.n, weight, accumulate,
                          to.writable_bytes().data());
}

}  // namespace

void register_codecs_ternary(py::module_& m) {
    py::class_<HeldEncoder, std::shared_ptr<HeldEncoder>>(m, "TernaryEncoder", "A part, ready to be coded.")
        .def_property_readonly("model", [](const HeldEncoder& h) { return to_bytes(h.encoder->model()); })
        .def_property_readonly("chunk_elements",
                               [](const HeldEncoder& h) { return h.encoder->chunk_elements(); })
        .def_property_readonly("chunks", [](const HeldEncoder& h) { return h.encoder->chunks(); })
        .def("encode", &encode_ternary_chunks, "first"_a, "end"_a, "threads"_a = 0,
             "Chunks first to end: a list of bytes.");
    m.def("ternary_encoders", &make_encoders, "parts"_a, "sparsity_multiplier"_a, "layout"_a, "entropy"_a,
          "block"_a, "threads"_a = 0, "Encoders of parts (dtype, data, name).");
    py::class_<ternary::Decoder, ChunkDecoder>(m, "TernaryDecoder")
        .def_property_readonly("block", &ternary::Decoder::block)
        .def_property_readonly("scale", &ternary::Decoder::scale);
    m.def(
        "ternary_decoder",
        [](std::uint8_t dtype, std::size_t chunk_elements, const py::object& model) {
            const BufferView view(model, "model");
            const py::gil_scoped_release nogil;
            return std::make_unique<ternary::Decoder>(dtype, chunk_elements, view.bytes());
        },
        "dtype"_a, "chunk_elements"_a, "model"_a, "Decoder of codec 8; checks the model.");
    m.def("ternary_compress", &compress, "values"_a, "dtype"_a, "residual"_a, "sparsity_multiplier"_a,
          "layout"_a, "entropy"_a,
          "Message of residual + values, whose rest stays in `residual`; None where it is not finite.");
    m.def("ternary_compress_raw", &compress_raw, "values"_a, "dtype"_a, "Message of values as they are.");
    m.def("ternary_decompress", &decompress, "message"_a, "out"_a, "dtype"_a, "weight"_a = 1.0F,
          "accumulate"_a = false, "Set `out` to weight times what a message says, or add that to it.");
}

}  // namespace nncodec::python
