#include <algorithm>

#include "entropy/rans.hpp"
#include "python/convert.hpp"

namespace nncodec::python {
namespace {

using Table = std::vector<std::uint32_t>;

std::vector<rans::Frequencies> to_frequencies(const std::vector<Table>& tables, unsigned prob_bits) {
    std::vector<rans::Frequencies> result;
    result.reserve(tables.size());
    for (const Table& table : tables) result.push_back({table, prob_bits});
    return result;
}

}  // namespace

void register_rans(py::module_& m) {
    m.def(
        "rans_normalise",
        [](const std::vector<std::uint64_t>& counts, unsigned prob_bits) {
            return rans::normalise(counts, prob_bits).of;
        },
        "counts"_a, "prob_bits"_a = rans::kDefaultProbBits,
        "The frequencies of sum 2**prob_bits with the least code length for these counts.");
    m.def(
        "rans_cost",
        [](const std::vector<std::uint64_t>& counts, const Table& table, unsigned prob_bits) {
            return rans::cost_in_256ths(counts, {table, prob_bits});
        },
        "counts"_a, "table"_a, "prob_bits"_a = rans::kDefaultProbBits,
        "Code length in 1/256 bit; 2**64 - 1 if a symbol that occurs has frequency 0.");
    m.def(
        "rans_fit_tables",
        [](const std::vector<std::vector<std::uint64_t>>& counts, unsigned prob_bits) {
            std::vector<Table> result;
            for (const rans::Frequencies& table : rans::fit_tables(counts, prob_bits))
                result.push_back(table.of);
            return result;
        },
        "counts"_a, "prob_bits"_a = rans::kDefaultProbBits,
        "Tables that cost least together with their serialisation, one per list of counts.");
    m.def(
        "rans_write_tables",
        [](const std::vector<Table>& tables, unsigned prob_bits) {
            ByteWriter out;
            rans::write_tables(out, to_frequencies(tables, prob_bits));
            return to_bytes(out.data());
        },
        "tables"_a, "prob_bits"_a = rans::kDefaultProbBits, "Serialise a set of tables.");
    m.def(
        "rans_read_tables",
        [](const py::object& data, std::size_t max_tables) {
            const BufferView view(data, "data");
            ByteReader in(view.bytes());
            const auto tables = rans::read_tables(in, max_tables);
            in.expect_end("rANS tables");
            std::vector<Table> result;
            for (const rans::Frequencies& table : tables) result.push_back(table.of);
            return py::make_tuple(result, tables.front().prob_bits);
        },
        "data"_a, "max_tables"_a = rans::kMaxTables, "(tables, prob_bits) that rans_write_tables wrote.");
    m.def("rans_lanes_for", &rans::lanes_for, "stream_bytes"_a,
          "Lanes that cost about a thousandth of a stream.");

    py::class_<rans::Encoder>(m, "RansEncoder", "Static interleaved rANS encoder for a set of tables.")
        .def(py::init([](const std::vector<Table>& tables, unsigned prob_bits) {
                 return rans::Encoder(to_frequencies(tables, prob_bits));
             }),
             "tables"_a, "prob_bits"_a = rans::kDefaultProbBits)
        .def(
            "encode",
            [](const rans::Encoder& self, const py::object& symbols, unsigned lanes, std::size_t columns,
               const py::object& row_context, const py::object& column_context) {
                const BufferView view(symbols, "symbols");
                const OptionalBytes rows(row_context, "row_context");
                const OptionalBytes across(column_context, "column_context");
                const std::size_t n = view.bytes().size();
                const rans::Layout layout{n, columns == 0 ? std::max<std::size_t>(n, 1) : columns,
                                          rows.bytes(), across.bytes()};
                Bytes out;
                {
                    const py::gil_scoped_release nogil;
                    self.encode(view.bytes(), layout, lanes, out);
                }
                return to_bytes(out);
            },
            "symbols"_a, "lanes"_a, "columns"_a = 0, "row_context"_a = py::none(),
            "column_context"_a = py::none(), "The stream of a uint8 buffer; columns=0 means one row.");

    py::class_<rans::Decoder>(m, "RansDecoder", "Static interleaved rANS decoder for a set of tables.")
        .def(py::init([](const std::vector<Table>& tables, unsigned prob_bits) {
                 return rans::Decoder(to_frequencies(tables, prob_bits));
             }),
             "tables"_a, "prob_bits"_a = rans::kDefaultProbBits)
        .def(
            "decode",
            [](const rans::Decoder& self, const py::object& stream, const py::object& out, unsigned lanes,
               std::size_t columns, const py::object& row_context, const py::object& column_context) {
                const BufferView view(stream, "stream");
                const BufferView target(out, "out", true);
                const OptionalBytes rows(row_context, "row_context");
                const OptionalBytes across(column_context, "column_context");
                const std::size_t n = target.writable_bytes().size();
                const rans::Layout layout{n, columns == 0 ? std::max<std::size_t>(n, 1) : columns,
                                          rows.bytes(), across.bytes()};
                const py::gil_scoped_release nogil;
                rans::check_layout(layout, lanes, self.n_tables());
                self.decode(view.bytes(), layout, lanes, target.writable_bytes());
            },
            "stream"_a, "out"_a, "lanes"_a, "columns"_a = 0, "row_context"_a = py::none(),
            "column_context"_a = py::none(), "Fill a writable uint8 buffer; columns=0 means one row.");
}

}  // namespace nncodec::python
