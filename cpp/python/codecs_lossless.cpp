#include <mutex>

#include "base/memory.hpp"
#include "codecs/lossless.hpp"
#include "python/convert.hpp"

namespace nncodec::python {
namespace {

// Elements from which on a decoder is built by the thread that decodes the record's first chunk.
constexpr std::uint64_t kLazyFrom = 1U << 16;

// A planned part and its buffer, which must stay open until the last chunk is encoded. Chunks are moved out,
// so threads take turns.
struct PyEncoding {
    PyEncoding(BufferView&& from, lossless::Encoding&& made)
        : data(std::move(from)), encoding(std::move(made)) {}

    BufferView data;
    lossless::Encoding encoding;
    std::mutex turn;
};

// part: (element type, columns, data)
std::vector<std::unique_ptr<PyEncoding>> encode_parts(const py::sequence& parts, std::size_t threads) {
    std::vector<BufferView> views;
    std::vector<lossless::Part> list;
    views.reserve(parts.size());
    for (const py::handle item : parts) {
        const auto fields = py::cast<py::tuple>(item);
        if (fields.size() != 3) throw py::value_error("a part is (dtype, columns, data)");
        const BufferView& data = views.emplace_back(fields[2], "data");
        list.push_back({py::cast<std::uint8_t>(fields[0]), py::cast<std::size_t>(fields[1]), data.bytes()});
    }
    std::vector<lossless::Encoding> encodings;
    {
        const py::gil_scoped_release nogil;  // spans only from here; `views` keeps the buffers alive
        encodings = lossless::encode(list, threads);
    }
    std::vector<std::unique_ptr<PyEncoding>> result;
    for (std::size_t i = 0; i < list.size(); ++i) {
        result.push_back(std::make_unique<PyEncoding>(std::move(views[i]), std::move(encodings[i])));
    }
    return result;
}

// A payload as a buffer, so that its bytes are not copied once more.
struct Payload {
    explicit Payload(Bytes&& from) : bytes(std::move(from)) {}
    Payload(const Payload&) = delete;
    Payload& operator=(const Payload&) = delete;
    ~Payload() { give_buffer(std::move(bytes)); }

    Bytes bytes;
};

py::list encode_lossless_chunks(PyEncoding& part, std::size_t first, std::size_t end, std::size_t threads) {
    std::vector<Bytes> chunks;
    {
        const py::gil_scoped_release nogil;
        const std::lock_guard lock(part.turn);
        chunks = part.encoding.encode(first, end, threads);
    }
    py::list result;
    for (Bytes& chunk : chunks) {
        result.append(py::memoryview(py::cast(std::make_unique<Payload>(std::move(chunk)))));
    }
    return result;
}

}  // namespace

void register_lossless(py::module_& m) {
    py::class_<Payload>(m, "Payload", py::buffer_protocol()).def_buffer([](Payload& payload) {
        return py::buffer_info(payload.bytes.data(), static_cast<py::ssize_t>(payload.bytes.size()), true);
    });
    py::class_<PyEncoding>(m, "LosslessEncoding", "A part of which everything but the chunks is decided.")
        .def_property_readonly("chunk_elements",
                               [](const PyEncoding& part) { return part.encoding.chunk_elements(); })
        .def_property_readonly("n_chunks", [](const PyEncoding& part) { return part.encoding.chunks(); })
        .def_property_readonly("version", [](const PyEncoding& part) { return part.encoding.version(); })
        .def_property_readonly("model",
                               [](const PyEncoding& part) { return to_bytes(part.encoding.model()); })
        .def("encode", &encode_lossless_chunks, "first"_a, "end"_a, "threads"_a = 0,
             "The payloads of chunks first to end - 1. Each chunk can be asked for once.");
    m.def("lossless_encode", &encode_parts, "parts"_a, "threads"_a = 0,
          "Plan parts, each (dtype, columns, data), and encode the short ones, in parallel.");
    m.def(
        "lossless_decoder",
        [](unsigned version, std::uint8_t dtype, std::uint64_t elements, std::size_t chunk_elements,
           const py::object& model) -> std::unique_ptr<ChunkDecoder> {
            const BufferView view(model, "model");
            if (chunk_elements == 0 || chunk_elements > (std::size_t{1} << 20)) {
                throw py::value_error("chunk_elements must be 1 to 2**20");
            }
            if (elements >= std::uint64_t{1} << 59) throw py::value_error("elements must be below 2**59");
            const ByteView bytes = view.bytes();
            const py::gil_scoped_release nogil;
            if (elements < kLazyFrom)
                return std::make_unique<lossless::Decoder>(version, dtype, elements, chunk_elements, bytes);
            return std::make_unique<LazyDecoder>([=, copy = Bytes(bytes.begin(), bytes.end())] {
                return std::make_unique<lossless::Decoder>(version, dtype, elements, chunk_elements, copy);
            });
        },
        "version"_a, "dtype"_a, "elements"_a, "chunk_elements"_a, "model"_a,
        "Decoder of codec 1 for one record.");
}

}  // namespace nncodec::python
