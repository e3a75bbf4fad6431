#include <mutex>

#include "codecs/chunk_decoder.hpp"
#include "codecs/stored.hpp"
#include "python/convert.hpp"

namespace nncodec::python {
namespace {

// Jobs in the making, and what keeps their memory alive. job: (decoder, chunk index, payload, CRC seed, CRC,
// writable output)
class PyChunkBatch {
  public:
    PyChunkBatch(const py::sequence& jobs, std::size_t threads) {
        std::vector<ChunkJob> list;
        views_.reserve(2 * jobs.size());
        decoders_.reserve(jobs.size());
        list.reserve(jobs.size());
        for (const py::handle item : jobs) {
            const auto fields = py::cast<py::tuple>(item);
            if (fields.size() != 6)
                throw py::value_error("a job is (decoder, chunk, payload, crc_seed, crc, out)");
            const BufferView& payload = views_.emplace_back(fields[2], "payload");
            const BufferView& out = views_.emplace_back(fields[5], "out", true);
            decoders_.push_back(fields[0]);
            list.push_back({&py::cast<const ChunkDecoder&>(fields[0]), py::cast<std::size_t>(fields[1]),
                            payload.bytes(), py::cast<std::uint32_t>(fields[3]),
                            py::cast<std::uint32_t>(fields[4]), out.writable_bytes()});
        }
        batch_.emplace(std::move(list), threads);
    }
    PyChunkBatch(const PyChunkBatch&) = delete;
    PyChunkBatch& operator=(const PyChunkBatch&) = delete;
    ~PyChunkBatch() {
        const py::gil_scoped_release nogil;  // chunks that are being decoded end first
        batch_.reset();
    }

    py::object wait() {
        ChunkFailure failure;
        {
            const py::gil_scoped_release nogil;  // spans only from here; `views_` keeps the buffers alive
            const std::lock_guard lock(turn_);
            failure = batch_->wait();
        }
        if (failure.job == SIZE_MAX) return py::none();
        return py::make_tuple(failure.job, failure.cause);
    }

  private:
    std::vector<BufferView> views_;
    std::vector<py::object> decoders_;
    std::mutex turn_;  // of threads that wait for the same batch
    std::optional<ChunkBatch> batch_;
};

}  // namespace

void register_codecs(py::module_& m) {
    py::class_<ChunkDecoder>(m, "ChunkDecoder", "Decodes the chunks of one record, each alone.");
    m.def(
        "stored_decoder", []() -> std::unique_ptr<ChunkDecoder> { return std::make_unique<StoredDecoder>(); },
        "Decoder of codec 0: a payload is the elements themselves.");
    py::class_<PyChunkBatch>(m, "ChunkBatch", "Chunks that are being checked and decoded on other threads.")
        .def(py::init<const py::sequence&, std::size_t>(), "jobs"_a, "threads"_a = 0)
        .def("wait", &PyChunkBatch::wait,
             "Help until all are done. Returns None, or (index of the first bad job, cause).");
    m.def(
        "decode_chunks",
        [](const py::sequence& jobs, std::size_t threads) { return PyChunkBatch(jobs, threads).wait(); },
        "jobs"_a, "threads"_a = 0,
        "Check and decode chunks in parallel. Returns None, or (index of the first bad job, cause).");
}

}  // namespace nncodec::python
