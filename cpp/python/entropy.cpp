#include "entropy/adaptive_bytes.hpp"
#include "python/convert.hpp"

namespace nncodec::python {

void register_range(py::module_& m);  // entropy_range.cpp
void register_rans(py::module_& m);   // entropy_rans.cpp

namespace {

void register_adaptive(py::module_& m) {
    m.def(
        "adaptive_encode_bytes",
        [](const py::object& values, unsigned stride) {
            const BufferView view(values, "values");
            Bytes out;
            {
                const py::gil_scoped_release nogil;
                adaptive::encode_bytes(view.bytes(), out, stride);
            }
            return to_bytes(out);
        },
        "values"_a, "stride"_a = 1,
        "Code a buffer's bytes, little-endian integers of `stride` bytes, with adaptive models and no "
        "header.");
    m.def(
        "adaptive_decode_bytes",
        [](const py::object& stream, const py::object& out, unsigned stride) {
            const BufferView from(stream, "stream");
            const BufferView to(out, "out", true);
            const py::gil_scoped_release nogil;
            adaptive::decode_bytes(from.bytes(), to.writable_bytes(), stride);
        },
        "stream"_a, "out"_a, "stride"_a = 1,
        "Fill a writable buffer from a stream that adaptive_encode_bytes made of as many bytes.");
}

}  // namespace

void register_entropy(py::module_& m) {
    register_adaptive(m);
    register_range(m);
    register_rans(m);
}

}  // namespace nncodec::python
