#include "python/convert.hpp"
#include "retrieval/bloomier.hpp"
#include "retrieval/ribbon.hpp"

namespace nncodec::python {
namespace {

using retrieval::Hit;
using retrieval::Key;

template <typename T>
py::object array_of(const std::vector<T>& values, const char* dtype) {
    const py::module_ numpy = py::module_::import("numpy");
    return numpy.attr("frombuffer")(
        to_bytes({reinterpret_cast<const std::uint8_t*>(values.data()), values.size() * sizeof(T)}), dtype);
}

py::tuple split(const std::vector<Hit>& hits) {
    std::vector<Key> positions;
    std::vector<std::uint16_t> codes;
    for (const Hit& hit : hits) {
        positions.push_back(hit.position);
        codes.push_back(hit.code);
    }
    return py::make_tuple(array_of(positions, "uint32"), array_of(codes, "uint16"));
}

py::object ribbon_build(const py::object& keys, const py::object& codes, std::uint32_t slots, unsigned bits,
                        unsigned words, std::uint64_t seed) {
    const BufferView key_view(keys, "keys");
    const BufferView code_view(codes, "codes");
    std::optional<Bytes> table;
    {
        const py::gil_scoped_release nogil;
        table = ribbon::build(key_view.as<Key>("keys"), code_view.as<std::uint16_t>("codes"),
                              {slots, bits, words}, seed);
    }
    return table ? py::object(to_bytes(*table)) : py::none();
}

// Checks what ribbon::Table wants of its caller.
ribbon::Table ribbon_table(const BufferView& table, std::uint32_t slots, unsigned bits, unsigned words,
                           std::uint64_t seed) {
    const ribbon::Shape shape{slots, bits, words};
    ribbon::check(shape);
    if (table.bytes().size() != ribbon::table_bytes(shape)) throw py::value_error("table has another size");
    return {shape, retrieval::state_of(seed), table.bytes()};
}

template <typename Table>
void query_into(const Table& table, const py::object& keys, const py::object& out) {
    const BufferView key_view(keys, "keys");
    const BufferView out_view(out, "out", true);
    const auto from = key_view.as<Key>("keys");
    const auto to = out_view.writable_as<std::uint16_t>("out");
    if (from.size() != to.size()) throw py::value_error("as many codes as keys, please");
    if (table.data.empty()) throw py::value_error("an empty table has no codes");
    const py::gil_scoped_release nogil;
    query(table, from, to);
}

template <typename Table>
py::tuple find(const Table& table, Key first, Key end, std::uint32_t limit) {
    if (end < first) throw py::value_error("end must not be below first");
    if (limit < 1 || limit > 1U << table.shape.bits) throw py::value_error("limit must be 1 to 2**bits");
    std::vector<Hit> found;
    {
        const py::gil_scoped_release nogil;
        hits(table, first, end, limit, found);
    }
    return split(found);
}

void ribbon_query(const py::object& table, std::uint32_t slots, unsigned bits, unsigned words,
                  std::uint64_t seed, const py::object& keys, const py::object& out) {
    const BufferView view(table, "table");
    query_into(ribbon_table(view, slots, bits, words, seed), keys, out);
}

py::tuple ribbon_hits(const py::object& table, std::uint32_t slots, unsigned bits, unsigned words,
                      std::uint64_t seed, Key first, Key end, std::uint32_t limit) {
    const BufferView view(table, "table");
    return find(ribbon_table(view, slots, bits, words, seed), first, end, limit);
}

py::object bloomier_build(const py::object& keys, const py::object& codes, std::uint32_t third, unsigned bits,
                          std::uint64_t seed) {
    const BufferView key_view(keys, "keys");
    const BufferView code_view(codes, "codes");
    std::optional<Bytes> table;
    {
        const py::gil_scoped_release nogil;
        table = bloomier::build(key_view.as<Key>("keys"), code_view.as<std::uint16_t>("codes"), {third, bits},
                                seed);
    }
    return table ? py::object(to_bytes(*table)) : py::none();
}

// Checks what bloomier::Table wants of its caller.
bloomier::Table bloomier_table(const BufferView& table, std::uint32_t third, unsigned bits,
                               std::uint64_t seed) {
    const bloomier::Shape shape{third, bits};
    bloomier::check(shape);
    if (table.bytes().size() != bloomier::table_bytes(shape)) throw py::value_error("table has another size");
    return {shape, retrieval::state_of(seed), table.bytes()};
}

void bloomier_query(const py::object& table, std::uint32_t third, unsigned bits, std::uint64_t seed,
                    const py::object& keys, const py::object& out) {
    const BufferView view(table, "table");
    query_into(bloomier_table(view, third, bits, seed), keys, out);
}

py::tuple bloomier_hits(const py::object& table, std::uint32_t third, unsigned bits, std::uint64_t seed,
                        Key first, Key end, std::uint32_t limit) {
    const BufferView view(table, "table");
    return find(bloomier_table(view, third, bits, seed), first, end, limit);
}

py::bytes bloomier_shrink(const py::object& table, std::uint32_t third, unsigned bits) {
    const BufferView view(table, "table");
    return to_bytes(bloomier::shrink(bloomier_table(view, third, bits, 0)));
}

py::bytes bloomier_expand(const py::object& stream, std::uint32_t third, unsigned bits) {
    const BufferView view(stream, "stream");
    bloomier::check({third, bits});
    return to_bytes(bloomier::expand({third, bits}, view.bytes()));
}

}  // namespace

void register_retrieval(py::module_& m) {
    m.def("ribbon_build", &ribbon_build, "keys"_a, "codes"_a, "slots"_a, "bits"_a, "words"_a, "seed"_a,
          "A ribbon table of uint32 keys to uint16 codes, or None if this seed does not work.");
    m.def("ribbon_query", &ribbon_query, "table"_a, "slots"_a, "bits"_a, "words"_a, "seed"_a, "keys"_a,
          "out"_a, "Codes of uint32 keys into `out` (uint16).");
    m.def("ribbon_hits", &ribbon_hits, "table"_a, "slots"_a, "bits"_a, "words"_a, "seed"_a, "first"_a,
          "end"_a, "limit"_a,
          "Positions (uint32) in [first, end) with a code below `limit`, and these codes (uint16).");
    m.def("bloomier_build", &bloomier_build, "keys"_a, "codes"_a, "third"_a, "bits"_a, "seed"_a,
          "A Bloomier table of uint32 keys to uint16 codes, or None if this seed does not work.");
    m.def("bloomier_query", &bloomier_query, "table"_a, "third"_a, "bits"_a, "seed"_a, "keys"_a, "out"_a,
          "Codes of uint32 keys into `out` (uint16).");
    m.def("bloomier_hits", &bloomier_hits, "table"_a, "third"_a, "bits"_a, "seed"_a, "first"_a, "end"_a,
          "limit"_a,
          "Positions (uint32) in [first, end) with a code below `limit`, and these codes (uint16).");
    m.def("bloomier_shrink", &bloomier_shrink, "table"_a, "third"_a, "bits"_a,
          "The table without the cells that are 0.");
    m.def("bloomier_expand", &bloomier_expand, "stream"_a, "third"_a, "bits"_a, "The table again.");
}

}  // namespace nncodec::python
