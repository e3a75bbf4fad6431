
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
               const py::object& contexts, std::size_t unit) {
                const BufferView from(symbols, "symbols");
                const OptionalBytes context(contexts, "contexts");
                Bytes out;
                {
                    const py::gil_scoped_release nogil;
                    self.encode(from.bytes(), context.bytes(), lanes, out, unit);
                }
                return to_bytes(out);
            },
            "symbols"_a, "lanes"_a, "contexts"_a = py::none(), "unit"_a = 0);

    py::class_<rans::TrellisDecoder>(m, "RansTrellisDecoder",
                                     "Decodes trellis levels straight to int16 values.")
        .def(py::init([](const std::vector<Table>& tables, const py::object& values, unsigned states) {
                 const BufferView view(values, "values");
                 return rans::TrellisDecoder(to_frequencies(tables), view.as<std::int16_t>("values"),
                                             trellis::code_of(states));
             }),
             "tables"_a, "values"_a, "states"_a = 8)
        .def(
            "decode",
            [](const rans::TrellisDecoder& self, const py::object& stream, const py::object& out,
               unsigned lanes, const py::object& contexts, std::size_t unit) {
                const BufferView from(stream, "stream");
                const BufferView to(out, "out", true);
                const OptionalBytes context(contexts, "contexts");
                const std::size_t n = to.as<std::int16_t>("out").size();
                const py::gil_scoped_release nogil;
                self.decode(from.bytes(), context.bytes(), lanes,
                            {reinterpret_cast<std::int16_t*>(to.writable_bytes().data()), n}, unit);
            },
            "stream"_a, "out"_a, "lanes"_a, "contexts"_a = py::none(), "unit"_a = 0);
}

}  // namespace nncodec::python
