
#include "entropy/rans_trellis.hpp"
#include "python/convert.hpp"

namespace nncodec::python {
namespace {

using Table = std::vector<std::uint32_t>;

std::vector<rans::Frequencies> to_frequencies(const std::vector<Table>& tables) {
    std::vector<rans::Frequencies> result;
    result.reserve(tables.size());
    for (const Table& table : tables) result.push_back({table, rans::kDefaultProbBits});
    return result;
}

}  // namespace

void register_rans_trellis(py::module_& m) {
    py::class_<rans::TrellisEncoder>(m, "RansTrellisEncoder",
                                     "Codes trellis levels, a pair of tables per context.")
        .def(py::init([](const std::vector<Table>& tables, unsigned states) {
                 return rans::TrellisEncoder(to_frequencies(tables), trellis::code_of(states));
             }),
             "tables"_a, "states"_a = 8)
        .def(
            "encode",
            [](const rans::TrellisEncoder& self, const py::object& symbols, unsigned lanes,
               const py::object& contexts) {
                const BufferView from(symbols, "symbols");
                const OptionalBytes context(contexts, "contexts");
                Bytes out;
                {
                    const py::gil_scoped_release nogil;
                    self.encode(from.bytes(), context.bytes(), lanes, out);
                }
                return to_bytes(out);
            },
            "symbols"_a, "lanes"_a, "contexts"_a = py::none());

    py::class_<rans::TrellisDecoder>(m, "RansTrellisDecoder",
                                     "Decodes trellis levels straight to float32 values.")
        .def(py::init([](const std::vector<Table>& tables, const py::object& points, unsigned states) {
                 const BufferView view(points, "points");
                 return rans::TrellisDecoder(to_frequencies(tables), view.as<float>("points"),
                                             trellis::code_of(states));
             }),
             "tables"_a, "points"_a, "states"_a = 8)
        .def(
            "decode",
            [](const rans::TrellisDecoder& self, const py::object& stream, const py::object& out,
               unsigned lanes, const py::object& contexts) {
                const BufferView from(stream, "stream");
                const BufferView to(out, "out", true);
                const OptionalBytes context(contexts, "contexts");
                const std::size_t n = to.as<float>("out").size();
                const py::gil_scoped_release nogil;
                self.decode(from.bytes(), context.bytes(), lanes,
                            {reinterpret_cast<float*>(to.writable_bytes().data()), n});
            },
            "stream"_a, "out"_a, "lanes"_a, "contexts"_a = py::none());
}

}  // namespace nncodec::python
