#include <algorithm>
#include <mutex>

#include "codecs/chunk_decoder.hpp"
#include "codecs/chunk_frames.hpp"
#include "codecs/stored.hpp"
#include "python/convert.hpp"

namespace nncodec::python {
namespace {

// Jobs in the making, and what keeps their memory alive. job: (decoder, chunk index, payload, CRC seed, CRC,
// writable output) of one chunk, or (decoder, index of the first chunk, file, place of that chunk in it,
// lengths of the payloads, CRC of the record, writable output, decoded bytes per chunk) of several that
// follow each other in the file.
class PyChunkBatch {
  public:
    PyChunkBatch(const py::sequence& jobs, std::size_t threads, bool fresh) {
        std::vector<ChunkJob> list;
        views_.reserve(2 * jobs.size());
        decoders_.reserve(jobs.size());
        list.reserve(jobs.size());
        for (const py::handle item : jobs) {
            const auto fields = py::cast<py::tuple>(item);
            if (fields.size() == 6) {
                list.push_back(one(fields));
            } else if (fields.size() == 8) {
                add_run(fields, list);
            } else {
                throw py::value_error(
                    "a job is (decoder, chunk, payload, crc_seed, crc, out) or (decoder, first chunk, "
                    "file, at, lengths, record_crc, out, chunk_bytes)");
            }
        }
        batch_.emplace(std::move(list), threads, fresh);
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
    ChunkJob one(const py::tuple& fields) {
        const BufferView& payload = views_.emplace_back(fields[2], "payload");
        const BufferView& out = views_.emplace_back(fields[5], "out", true);
        decoders_.push_back(fields[0]);
        return {&py::cast<const ChunkDecoder&>(fields[0]),
                py::cast<std::size_t>(fields[1]),
                payload.bytes(),
                py::cast<std::uint32_t>(fields[3]),
                py::cast<std::uint32_t>(fields[4]),
                out.writable_bytes()};
    }

    // A chunk whose frame is not where the lengths say, and all behind it, become jobs without a decoder.
    void add_run(const py::tuple& fields, std::vector<ChunkJob>& list) {
        const auto* decoder = &py::cast<const ChunkDecoder&>(fields[0]);
        decoders_.push_back(fields[0]);
        const auto first = py::cast<std::size_t>(fields[1]);
        const ByteView file = views_.emplace_back(fields[2], "file").bytes();
        auto at = py::cast<std::size_t>(fields[3]);
        const auto lengths = py::cast<py::sequence>(fields[4]);
        const auto record_crc = py::cast<std::uint32_t>(fields[5]);
        const std::span<std::uint8_t> out = views_.emplace_back(fields[6], "out", true).writable_bytes();
        const auto chunk_bytes = py::cast<std::size_t>(fields[7]);
        for (std::size_t i = 0, begin = 0; i < lengths.size(); ++i, begin += chunk_bytes) {
            if (begin >= out.size()) throw py::value_error("out has no room for so many chunks");
            const auto length = py::cast<std::size_t>(lengths[i]);
            const std::optional<ChunkFrame> frame = decoder == nullptr ? std::nullopt : read_frame(file, at);
            if (!frame || frame->end - frame->begin != length) {
                decoder = nullptr;
                list.push_back({nullptr, first + i, {}, 0, 0, {}});
                continue;
            }
            list.push_back({decoder, first + i, file.subspan(frame->begin, length),
                            chunk_seed(record_crc, first + i, length), frame->crc,
                            out.subspan(begin, std::min(chunk_bytes, out.size() - begin))});
            at = frame->end + sizeof frame->crc;
        }
    }

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
        .def(py::init<const py::sequence&, std::size_t, bool>(), "jobs"_a, "threads"_a = 0, "fresh"_a = false)
        .def("wait", &PyChunkBatch::wait,
             "Help until all are done. Returns None, or (index of the first bad job, cause).");
    m.def(
        "decode_chunks",
        [](const py::sequence& jobs, std::size_t threads) {
            return PyChunkBatch(jobs, threads, false).wait();
        },
        "jobs"_a, "threads"_a = 0,
        "Check and decode chunks in parallel. Returns None, or (index of the first bad job, cause).");
}

}  // namespace nncodec::python
