#include "entropy/context_mixing.hpp"
#include "entropy/lzw.hpp"
#include "python/convert.hpp"

namespace nncodec::python {
namespace {

mixing::Layout layout_of(std::uint32_t width, std::uint32_t repeat, std::uint32_t row) {
    if (repeat == 0 || row > mixing::kMaxRow)
        throw py::value_error("repeat must be positive, row at most 2**20");
    return {width, repeat, row};
}

}  // namespace

void register_universal_coders(py::module_& m) {
    m.def(
        "lzw_encode",
        [](const py::object& data) {
            const BufferView view(data, "data");
            Bytes out;
            {
                const py::gil_scoped_release nogil;
                lzw::encode(view.bytes(), out);
            }
            return to_bytes(out);
        },
        "data"_a, "LZW codes of a buffer's bytes.");
    m.def(
        "lzw_decode",
        [](const py::object& stream, const py::object& out) {
            const BufferView from(stream, "stream");
            const BufferView to(out, "out", true);
            const py::gil_scoped_release nogil;
            lzw::decode(from.bytes(), to.writable_bytes());
        },
        "stream"_a, "out"_a, "Fill a writable buffer from LZW codes of as many bytes.");
    m.def(
        "mixing_encode",
        [](const py::object& values, const py::object& kinds, std::uint32_t width, std::uint32_t repeat,
           std::uint32_t row) {
            const BufferView view(values, "values");
            const OptionalBytes kinds_view(kinds, "kinds");
            const auto integers = view.as<std::int32_t>("values");
            const mixing::Layout layout = layout_of(width, repeat, row);
            Bytes out;
            {
                const py::gil_scoped_release nogil;
                mixing::encode_integers(integers, kinds_view.bytes(), layout, out);
            }
            return to_bytes(out);
        },
        "values"_a, "kinds"_a = py::none(), "width"_a = 1, "repeat"_a = 1, "row"_a = 0,
        "Code int32 values by context mixing, without a header.");
    m.def(
        "mixing_decode",
        [](const py::object& stream, const py::object& out, const py::object& kinds, std::uint32_t width,
           std::uint32_t repeat, std::uint32_t row) {
            const BufferView from(stream, "stream");
            const BufferView to(out, "out", true);
            const OptionalBytes kinds_view(kinds, "kinds");
            const auto integers = to.writable_as<std::int32_t>("out");
            const mixing::Layout layout = layout_of(width, repeat, row);
            const py::gil_scoped_release nogil;
            mixing::decode_integers(from.bytes(), kinds_view.bytes(), layout, integers);
        },
        "stream"_a, "out"_a, "kinds"_a = py::none(), "width"_a = 1, "repeat"_a = 1, "row"_a = 0,
        "Fill a writable buffer of int32 from a stream of mixing_encode.");
}

}  // namespace nncodec::python
