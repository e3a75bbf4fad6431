#include "codecs/chunk_decoder.hpp"
#include "codecs/stored.hpp"
#include "python/convert.hpp"

namespace nncodec::python {
namespace {

// job: (decoder, chunk index, payload, CRC seed, CRC, writable output)
py::object decode_jobs(const py::sequence& jobs, std::size_t threads) {
    std::vector<BufferView> views;
    std::vector<ChunkJob> list;
    views.reserve(2 * jobs.size());
    list.reserve(jobs.size());
    for (const py::handle item : jobs) {
        const auto fields = py::cast<py::tuple>(item);
        if (fields.size() != 6)
            throw py::value_error("a job is (decoder, chunk, payload, crc_seed, crc, out)");
        const BufferView& payload = views.emplace_back(fields[2], "payload");
        const BufferView& out = views.emplace_back(fields[5], "out", true);
        list.push_back({&py::cast<const ChunkDecoder&>(fields[0]), py::cast<std::size_t>(fields[1]),
                        payload.bytes(), py::cast<std::uint32_t>(fields[3]),
                        py::cast<std::uint32_t>(fields[4]), out.writable_bytes()});
    }
    ChunkFailure failure;
    {
        const py::gil_scoped_release nogil;  // spans only from here; `views` keeps the buffers alive
        failure = decode_chunks(list, threads);
    }
    if (failure.job == SIZE_MAX) return py::none();
    return py::make_tuple(failure.job, failure.cause);
}

}  // namespace

void register_codecs(py::module_& m) {
    py::class_<ChunkDecoder>(m, "ChunkDecoder", "Decodes the chunks of one record, each alone.");
    m.def(
        "stored_decoder", []() -> std::unique_ptr<ChunkDecoder> { return std::make_unique<StoredDecoder>(); },
        "Decoder of codec 0: a payload is the elements themselves.");
    m.def("decode_chunks", &decode_jobs, "jobs"_a, "threads"_a = 0,
          "Check and decode chunks in parallel. Returns None, or (index of the first bad job, cause).");
}

}  // namespace nncodec::python
