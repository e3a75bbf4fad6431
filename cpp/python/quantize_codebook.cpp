#include "python/convert.hpp"
#include "quantize/kmeans.hpp"
#include "quantize/lookup.hpp"

namespace nncodec::python {
namespace {

py::tuple kmeans_optimal(const py::object& values, const py::object& weights, std::size_t clusters) {
    const BufferView view(values, "values");
    const OptionalBytes optional(weights, "weights");
    const auto x = view.as<double>("values");
    const ByteView raw = optional.bytes();
    if (raw.size() % sizeof(double) != 0) throw py::value_error("weights must be float64");
    const std::span<const double> w(reinterpret_cast<const double*>(raw.data()), raw.size() / sizeof(double));
    kmeans::Codebook book;
    {
        const py::gil_scoped_release nogil;
        book = kmeans::optimal(x, w, clusters);
    }
    return py::make_tuple(book.centroids, book.objective);
}

void kmeans_assign(const py::object& values, const py::object& centroids, const py::object& out,
                   std::size_t threads) {
    const BufferView from(values, "values");
    const BufferView book(centroids, "centroids");
    const BufferView to(out, "out", true);
    const auto x = from.as<float>("values");
    const auto c = book.as<float>("centroids");
    const auto indices = to.writable_as<std::uint16_t>("out");
    const py::gil_scoped_release nogil;
    kmeans::assign(x, c, indices, threads);
}

std::vector<double> kmeans_lloyd(const py::object& vectors, std::size_t dimension, const py::object& weights,
                                 const py::object& centroids, std::size_t steps, const py::object& out,
                                 std::size_t threads) {
    const BufferView from(vectors, "vectors");
    const OptionalBytes optional(weights, "weights");
    const BufferView book(centroids, "centroids", true);
    const BufferView to(out, "out", true);
    const auto x = from.as<float>("vectors");
    const ByteView raw = optional.bytes();
    if (raw.size() % sizeof(float) != 0) throw py::value_error("weights must be float32");
    const std::span<const float> w(reinterpret_cast<const float*>(raw.data()), raw.size() / sizeof(float));
    const auto c = book.writable_as<float>("centroids");
    const auto indices = to.writable_as<std::uint16_t>("out");
    const py::gil_scoped_release nogil;
    return kmeans::lloyd(x, dimension, w, c, steps, indices, threads);
}

template <typename Index>
void run_table(const lookup::Table& table, std::span<const Index> indices, std::span<std::uint8_t> out) {
    if (out.size() != indices.size() * table.entry_bytes()) throw py::value_error("out has the wrong size");
    const py::gil_scoped_release nogil;
    if (sizeof(Index) > 1) {
        for (const Index index : indices) {
            if (index >= table.size()) throw ArgumentError("an index is beyond the table");
        }
    }
    table.run(indices, out);
}

}  // namespace

void register_quantize_codebook(py::module_& m) {
    m.def("kmeans_optimal", &kmeans_optimal, "values"_a, "weights"_a, "clusters"_a,
          "Exact k-means of ascending float64 values: (centroids, objective).");
    m.def("kmeans_assign", &kmeans_assign, "values"_a, "centroids"_a, "out"_a, "threads"_a = 1,
          "uint16 index of the nearest of ascending float32 centroids, into `out`.");
    m.def("kmeans_lloyd", &kmeans_lloyd, "vectors"_a, "dimension"_a, "weights"_a, "centroids"_a, "steps"_a,
          "out"_a, "threads"_a = 1,
          "Lloyd's iteration on float32 vectors; centroids change, objectives come back.");
    py::class_<lookup::Table>(m, "LookupTable", "Entries of 1 to 32 bytes, looked up by index.")
        .def(py::init([](const py::object& entries, std::size_t entry_bytes) {
                 const BufferView view(entries, "entries");
                 return lookup::Table(view.bytes(), entry_bytes);
             }),
             "entries"_a, "entry_bytes"_a)
        .def(
            "run",
            [](const lookup::Table& table, const py::object& indices, const py::object& out,
               std::size_t index_bytes) {
                const BufferView from(indices, "indices");
                const BufferView to(out, "out", true);
                if (index_bytes == 1) return run_table(table, from.bytes(), to.writable_bytes());
                if (index_bytes != 2) throw py::value_error("index_bytes must be 1 or 2");
                run_table(table, from.as<std::uint16_t>("indices"), to.writable_bytes());
            },
            "indices"_a, "out"_a, "index_bytes"_a = 1, "The entries of these indices, into `out`.")
        .def(
            "run_packed",
            [](const lookup::Table& table, const py::object& packed, unsigned bits, std::size_t n,
               const py::object& out) {
                const BufferView from(packed, "packed");
                const BufferView to(out, "out", true);
                const py::gil_scoped_release nogil;
                table.run_packed(from.bytes(), bits, n, to.writable_bytes());
            },
            "packed"_a, "bits"_a, "n"_a, "out"_a, "The same for packed indices of 1 to 16 bits.");
}

}  // namespace nncodec::python
