#include "base/memory.hpp"
#include "codecs/chunk_frames.hpp"
#include "python/convert.hpp"

namespace nncodec::python {
namespace {

// Memory that nobody can look at any more when this ends, whoever kept it.
struct Lent {
    Lent(const char* data, std::size_t size)
        : memory(py::memoryview::from_memory(data, static_cast<py::ssize_t>(size))) {}
    Lent(const Lent&) = delete;
    Lent& operator=(const Lent&) = delete;
    ~Lent() {
        const py::error_scope kept;  // a write that failed has raised
        if (PyObject* const none = PyObject_CallMethod(memory.ptr(), "release", nullptr)) {
            Py_DECREF(none);
        } else {
            PyErr_WriteUnraisable(memory.ptr());
        }
    }

    py::memoryview memory;
};

// Bytes in the making, in a Python object of its own from the start, so that nothing is copied at the end.
class Sink {
  public:
    // Room that cannot be had at once is taken as it is needed.
    explicit Sink(std::size_t capacity) {
        if (!allocate(std::max(capacity, kLeast))) {
            PyErr_Clear();
            if (!allocate(kLeast)) throw py::error_already_set();
        }
    }
    Sink(const Sink&) = delete;
    Sink& operator=(const Sink&) = delete;
    ~Sink() { Py_XDECREF(object_); }

    std::size_t size() const noexcept { return size_; }

    std::size_t write(const py::object& data) {
        const BufferView view(data, "data");
        const ByteView bytes = view.bytes();
        std::copy(bytes.begin(), bytes.end(), grow(bytes.size()).begin());
        return bytes.size();
    }

    // Each a buffer, written as it is, or (payload, CRC of the record, number) of a chunk, written in its
    // frame.
    std::size_t write_pieces(const py::sequence& pieces, std::size_t threads) {
        std::vector<BufferView> views;
        std::vector<Piece> list;
        for (const py::handle item : pieces) {
            if (!py::isinstance<py::tuple>(item)) {
                list.push_back({views.emplace_back(item, "data").bytes()});
                continue;
            }
            const auto fields = py::reinterpret_borrow<py::tuple>(item);
            if (fields.size() != 3) throw py::value_error("a chunk is (payload, record_crc, number)");
            list.push_back({views.emplace_back(fields[0], "payload").bytes(), true,
                            py::cast<std::uint32_t>(fields[1]), py::cast<std::uint64_t>(fields[2])});
        }
        const std::span<std::uint8_t> to = grow(written_size(list));
        const py::gil_scoped_release nogil;  // spans only from here; `views` keeps the buffers alive
        touch_huge_pages(to, threads);
        nncodec::write_pieces(list, to, threads);
        return to.size();
    }

    // Hands everything to `write` and begins anew.
    void flush(const py::object& write) {
        std::size_t done = 0;
        while (done < size_) {
            const Lent view(data() + done, std::min(size_ - done, kPiece));
            const py::object taken = write(view.memory);
            if (taken.is_none()) throw py::value_error("the file takes no bytes at present");
            done += py::cast<std::size_t>(taken);
        }
        size_ = 0;
    }

    py::bytes take() {
        resize(size_);
        PyObject* const result = std::exchange(object_, nullptr);
        size_ = 0;
        capacity_ = 0;
        return py::reinterpret_steal<py::bytes>(result);
    }

  private:
    static constexpr std::size_t kLeast = 1024;
    // Linux caches a file in pieces as large as what was written at once and maps it by the piece, so that
    // with large ones a reader of one tensor would touch much beyond it.
    static constexpr std::size_t kPiece = std::size_t{256} << 10;

    char* data() const noexcept { return PyBytes_AS_STRING(object_); }

    bool allocate(std::size_t capacity) {
        object_ = PyBytes_FromStringAndSize(nullptr, static_cast<py::ssize_t>(capacity));
        if (object_ == nullptr) return false;
        capacity_ = capacity;
        advise_huge_pages(data(), capacity);
        return true;
    }

    void resize(std::size_t capacity) {
        if (object_ == nullptr) {
            if (!allocate(capacity)) throw py::error_already_set();
            return;
        }
        capacity_ = 0;  // a failed resize frees the object, and all in it
        if (_PyBytes_Resize(&object_, static_cast<py::ssize_t>(capacity)) != 0) {
            size_ = 0;
            throw py::error_already_set();
        }
        capacity_ = capacity;
    }

    std::span<std::uint8_t> grow(std::size_t n) {
        if (n > capacity_ - size_) resize(std::max(size_ + n, size_ + size_ / 2 + kLeast));
        const std::span<std::uint8_t> room(reinterpret_cast<std::uint8_t*>(data()) + size_, n);
        size_ += n;
        return room;
    }

    PyObject* object_ = nullptr;
    std::size_t size_ = 0;
    std::size_t capacity_ = 0;
};

// Memory as a buffer, for arrays of any framework.
py::memoryview make_block(std::size_t size) {
    return py::memoryview(py::cast(std::make_unique<Block>(size)));
}

// (values, place behind them), or None if one is cut off, misspelled or above `most`.
py::object read_varints(const py::object& data, std::size_t at, std::size_t count, std::uint64_t most) {
    const BufferView view(data, "data");
    if (count > view.bytes().size()) return py::none();
    py::list values;
    for (std::size_t i = 0; i < count; ++i) {
        const std::optional<std::uint64_t> value = try_varint(view.bytes(), at);
        if (!value || *value > most) return py::none();
        values.append(*value);
    }
    return py::make_tuple(std::move(values), at);
}

// (begin of the payload, its end, the checksum's seed, checksum), or None if the chunk at `at` is cut off or
// its length misspelled.
py::object read_block(const py::object& data, std::size_t at, std::uint32_t record_crc,
                      std::uint64_t number) {
    const BufferView view(data, "data");
    const std::optional<ChunkFrame> frame = read_frame(view.bytes(), at);
    if (!frame) return py::none();
    const std::uint32_t seed = chunk_seed(record_crc, number, frame->end - frame->begin);
    return py::make_tuple(frame->begin, frame->end, seed, frame->crc);
}

// (lengths of their payloads, place behind them), or None if one of the chunks from `at` on is odd.
py::object skip_blocks(const py::object& data, std::size_t at, std::size_t count) {
    const BufferView view(data, "data");
    py::list lengths;
    for (std::size_t i = 0; i < count; ++i) {
        const std::optional<ChunkFrame> frame = read_frame(view.bytes(), at);
        if (!frame) return py::none();
        lengths.append(frame->end - frame->begin);
        at = frame->end + sizeof frame->crc;
    }
    return py::make_tuple(std::move(lengths), at);
}

}  // namespace

void register_container(py::module_& m) {
    m.def("read_varints", &read_varints, "data"_a, "at"_a, "count"_a, "most"_a,
          "Integers in a row and the place behind them; None if any is not as it must be.");
    m.def("read_block", &read_block, "data"_a, "at"_a, "record_crc"_a, "number"_a,
          "Begin and end of the payload of the chunk at a place, seed and value of its checksum; None if it "
          "is odd.");
    m.def("skip_blocks", &skip_blocks, "data"_a, "at"_a, "count"_a,
          "Lengths of the payloads of chunks in a row and the place behind them; None if any is odd.");
    py::class_<Sink>(m, "Sink", "Collects bytes without copying them at the end.")
        .def(py::init<std::size_t>(), "capacity"_a = 0)
        .def_property_readonly("size", &Sink::size)
        .def("write", &Sink::write, "data"_a)
        .def("write_pieces", &Sink::write_pieces, "pieces"_a, "threads"_a = 0,
             "Buffers as they are and chunks, (payload, record_crc, number), with length and checksum. "
             "Returns the bytes "
             "written.")
        .def("flush", &Sink::flush, "write"_a, "Hand everything to a file's write method and begin anew.")
        .def("take", &Sink::take, "Everything as bytes; the sink is empty afterwards.");
    py::class_<Block>(m, "Block", py::buffer_protocol()).def_buffer([](Block& block) {
        return py::buffer_info(block.bytes().data(), static_cast<py::ssize_t>(block.bytes().size()));
    });
    m.def("new_block", &make_block, "size"_a,
          "Fresh, writable memory of undefined content, on huge pages where the system has them on demand.");
}

}  // namespace nncodec::python
