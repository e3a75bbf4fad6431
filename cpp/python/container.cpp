#include "base/memory.hpp"
#include "codecs/chunk_frames.hpp"
#include "codecs/record_descriptor.hpp"
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
    ~Sink() {
        {
            const py::gil_scoped_release nogil;
            started_.reset();  // waits for pieces that are being written
        }
        Py_XDECREF(object_);
    }

    std::size_t size() const noexcept { return size_; }

    std::size_t write(const py::object& data) {
        finish();
        const BufferView view(data, "data");
        const ByteView bytes = view.bytes();
        std::copy(bytes.begin(), bytes.end(), grow(bytes.size()).begin());
        return bytes.size();
    }

    // Each a buffer, written as it is, or (payload, CRC of the record, number) of a chunk, written in its
    // frame. With several threads they are written while the caller goes on: finish() waits for that, and so
    // does whatever looks at the bytes or moves them.
    std::size_t write_pieces(const py::sequence& pieces, std::size_t threads) {
        finish();
        std::vector<Piece> list;
        for (const py::handle item : pieces) {
            if (!py::isinstance<py::tuple>(item)) {
                list.push_back({views_.emplace_back(item, "data").bytes()});
                continue;
            }
            const auto fields = py::reinterpret_borrow<py::tuple>(item);
            if (fields.size() != 3) throw py::value_error("a chunk is (payload, record_crc, number)");
            list.push_back({views_.emplace_back(fields[0], "payload").bytes(), true,
                            py::cast<std::uint32_t>(fields[1]), py::cast<std::uint64_t>(fields[2])});
        }
        const std::span<std::uint8_t> to = grow(written_size(list));
        started_.emplace(std::move(list), to, threads);
        if (threads == 1) finish();
        return to.size();
    }

    // Waits until all pieces are written, and lets go of them.
    void finish() {
        {
            const py::gil_scoped_release nogil;
            if (started_) started_->wait();
        }
        started_.reset();
        views_.clear();
    }

    // Hands everything to `write` and begins anew.
    void flush(const py::object& write) {
        finish();
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
        finish();
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
    std::vector<BufferView> views_;  // of the pieces that are being written
    std::optional<StartedPieces> started_;
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

// (place behind the checksum, length, checksum, codec, version, element type, tensors, elements per chunk,
// model), or None for a descriptor that is odd. A tensor: (name, ordinal, origin, shape).
py::object read_descriptor(const py::object& data, std::size_t at) {
    const BufferView view(data, "data");
    const std::optional<RecordDescriptor> found = read_record_descriptor(view.bytes(), at);
    if (!found) return py::none();
    py::list tensors;
    for (const RecordTensor& tensor : found->tensors) {
        const auto name = py::reinterpret_steal<py::object>(
            PyUnicode_DecodeUTF8(reinterpret_cast<const char*>(tensor.name.data()),
                                 static_cast<py::ssize_t>(tensor.name.size()), "strict"));
        if (!name) {
            if (!PyErr_ExceptionMatches(PyExc_UnicodeDecodeError)) throw py::error_already_set();
            PyErr_Clear();
            return py::none();
        }
        py::tuple shape(tensor.shape.size());
        for (std::size_t d = 0; d < tensor.shape.size(); ++d) shape[d] = tensor.shape[d];
        tensors.append(py::make_tuple(name, tensor.ordinal, tensor.origin, shape));
    }
    return py::make_tuple(found->end, found->length, found->crc, found->codec, found->version, found->dtype,
                          std::move(tensors), found->chunk_elements, to_bytes(found->model));
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

// Names as prefix codes make them, one after the other.
class Names {
  public:
    static constexpr std::size_t kMost = 65535;          // bytes of one
    static constexpr std::size_t kMostOfAll = 1U << 26;  // and of all

    // The first bytes of the last name and a suffix: a string, or a null object if it is too long or no
    // UTF-8.
    py::object next(std::size_t shared, ByteView suffix) {
        if (shared > name_.size() || shared + suffix.size() > kMost) return {};
        name_.resize(shared);
        name_.insert(name_.end(), suffix.begin(), suffix.end());
        all_ += name_.size();
        if (all_ > kMostOfAll) return {};
        PyObject* const text = PyUnicode_DecodeUTF8(reinterpret_cast<const char*>(name_.data()),
                                                    static_cast<py::ssize_t>(name_.size()), "strict");
        if (text == nullptr) PyErr_Clear();
        return py::reinterpret_steal<py::object>(text);
    }

  private:
    Bytes name_;
    std::size_t all_ = 0;
};

// Sizes whose product, zeros left out, stays below 2^63 bytes; a null object for others.
py::object read_shape(ByteView data, std::size_t& at, std::size_t dimensions, std::uint64_t item_size) {
    constexpr std::size_t kMostDimensions = 64;
    constexpr auto kMostBytes = static_cast<std::uint64_t>(INT64_MAX);
    if (dimensions > kMostDimensions) return {};
    py::tuple shape(dimensions);
    std::uint64_t bytes = item_size;
    for (std::size_t i = 0; i < dimensions; ++i) {
        const std::optional<std::uint64_t> size = try_varint(data, at);
        if (!size || *size > kMostBytes / bytes) return {};
        bytes *= *size == 0 ? 1 : *size;
        shape[i] = py::int_(*size);
    }
    return shape;
}

// A list of (name, ordinal, origin, shape) from the bytes of a packed table (docs/format.md#packed-tensors);
// None if anything is odd.
py::object unpack_tensors(const py::object& data, std::size_t count, std::uint64_t item_size,
                          unsigned origins) {
    const BufferView view(data, "data");
    const ByteView raw = view.bytes();
    if (item_size == 0) throw py::value_error("item_size must be at least 1");
    if (count > raw.size() / 5) return py::none();
    const auto column = [&](std::size_t i) { return raw.subspan(i * count, count); };
    const ByteView shared = column(0);
    const ByteView suffix = column(1);
    const ByteView steps = column(2);
    const ByteView origin = column(3);
    const ByteView dimensions = column(4);
    std::size_t at = 5 * count;
    std::vector<py::object> shapes;
    for (const std::uint8_t n : dimensions) {
        shapes.push_back(read_shape(raw, at, n, item_size));
        if (!shapes.back()) return py::none();
    }
    if (at >= raw.size()) return py::none();
    const std::size_t suffixes = raw[at++] + std::size_t{1};
    if (suffixes > raw.size() - at) return py::none();
    const ByteView lengths = raw.subspan(at, suffixes);
    at += suffixes;
    std::vector<ByteView> texts;
    for (const std::uint8_t length : lengths) {
        if (length > raw.size() - at) return py::none();
        texts.push_back(raw.subspan(at, length));
        at += length;
    }
    if (at != raw.size()) return py::none();
    Names names;
    std::uint64_t next = 0;
    py::list found;
    for (std::size_t i = 0; i < count; ++i) {
        if (suffix[i] >= texts.size() || origin[i] >= origins) return py::none();
        const py::object name = names.next(shared[i], texts[suffix[i]]);
        if (!name) return py::none();
        const std::uint64_t ordinal = next + steps[i];
        found.append(py::make_tuple(name, ordinal, py::int_(origin[i]), shapes[i]));
        next = ordinal + 1;
    }
    return found;
}

}  // namespace

void register_container(py::module_& m) {
    m.def("unpack_tensors", &unpack_tensors, "data"_a, "count"_a, "item_size"_a, "origins"_a,
          "The tensors (name, ordinal, origin, shape) of an unpacked table; None if anything is odd.");
    m.def("read_varints", &read_varints, "data"_a, "at"_a, "count"_a, "most"_a,
          "Integers in a row and the place behind them; None if any is not as it must be.");
    m.def("read_block", &read_block, "data"_a, "at"_a, "record_crc"_a, "number"_a,
          "Begin and end of the payload of the chunk at a place, seed and value of its checksum; None if it "
          "is odd.");
    m.def("read_descriptor", &read_descriptor, "data"_a, "at"_a,
          "The descriptor of the record whose type lies before a place; None if it is odd.");
    m.def("skip_blocks", &skip_blocks, "data"_a, "at"_a, "count"_a,
          "Lengths of the payloads of chunks in a row and the place behind them; None if any is odd.");
    py::class_<Sink>(m, "Sink", "Collects bytes without copying them at the end.")
        .def(py::init<std::size_t>(), "capacity"_a = 0)
        .def_property_readonly("size", &Sink::size)
        .def("write", &Sink::write, "data"_a)
        .def("write_pieces", &Sink::write_pieces, "pieces"_a, "threads"_a = 0,
             "Buffers as they are and chunks, (payload, record_crc, number), with length and checksum. "
             "Returns the bytes "
             "written; with several threads that happens until finish().")
        .def("finish", &Sink::finish, "Wait until all pieces are written, and let go of them.")
        .def("flush", &Sink::flush, "write"_a, "Hand everything to a file's write method and begin anew.")
        .def("take", &Sink::take, "Everything as bytes; the sink is empty afterwards.");
    py::class_<Block>(m, "Block", py::buffer_protocol()).def_buffer([](Block& block) {
        return py::buffer_info(block.bytes().data(), static_cast<py::ssize_t>(block.bytes().size()));
    });
    m.def("new_block", &make_block, "size"_a,
          "Fresh, writable memory of undefined content, on huge pages where the system has them on demand.");
}

}  // namespace nncodec::python
