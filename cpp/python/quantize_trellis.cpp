#include <algorithm>
#include <cstdlib>
#include <optional>

#include "python/convert.hpp"
#include "quantize/class_order.hpp"
#include "quantize/trellis.hpp"
#include "quantize/trellis_tables.hpp"

namespace nncodec::python {
namespace {

using trellis::Alphabet;
using trellis::TableShape;

Alphabet to_alphabet(const std::string& name) {
    if (name == "plain") return Alphabet::plain;
    if (name == "both_zero") return Alphabet::both_zero;
    throw py::value_error("alphabet is '" + name + "', not 'plain' or 'both_zero'");
}

// An optional buffer of elements: None is an empty span.
template <typename T>
class OptionalView {
  public:
    OptionalView(const py::object& object, const char* name) {
        if (object.is_none()) return;
        span_ = view_.emplace(object, name).template as<T>(name);
    }
    std::span<const T> span() const noexcept { return span_; }

  private:
    std::optional<BufferView> view_;
    std::span<const T> span_;
};

template <typename T>
std::span<T> writable(const BufferView& view, const char* name) {
    return {reinterpret_cast<T*>(view.writable_bytes().data()), view.as<T>(name).size()};
}

void trellis_dequantise(const py::object& levels, const py::object& out, float step, unsigned states,
                        const std::string& alphabet, std::size_t lanes, const py::object& contexts,
                        const py::object& offsets, int reach, std::size_t n_contexts) {
    const BufferView from(levels, "levels");
    const BufferView to(out, "out", true);
    const OptionalView<std::uint8_t> context(contexts, "contexts");
    const OptionalView<std::int16_t> offset(offsets, "offsets");
    const trellis::Points points{to_alphabet(alphabet), n_contexts, reach, offset.span()};
    const auto in = from.as<std::int16_t>("levels");
    const auto values = writable<float>(to, "out");
    const py::gil_scoped_release nogil;
    trellis::dequantise(in, trellis::code_of(states), points, step, context.span(), lanes, values);
}

void restore_order(const py::object& classes, const py::object& values, const py::object& out,
                   std::size_t n_classes) {
    const BufferView of(classes, "classes");
    const BufferView from(values, "values");
    const BufferView to(out, "out", true);
    const auto at = of.as<std::uint8_t>("classes");
    const auto in = from.as<std::int16_t>("values");
    const auto restored = writable<std::int16_t>(to, "out");
    const py::gil_scoped_release nogil;
    const class_order::Places places = class_order::places_of(at, n_classes);
    if (places[std::min<std::size_t>(n_classes, 256)] != at.size())
        throw ArgumentError("a class is not below n_classes");
    class_order::restore(at, places, in, restored);
}

void classes_of_row(int own, const py::object& parts, const py::object& map, const py::object& out) {
    const BufferView from(parts, "parts");
    const BufferView table(map, "map");
    const BufferView to(out, "out", true);
    const auto in = from.as<std::int16_t>("parts");
    const auto classes = writable<std::uint8_t>(to, "out");
    if (table.bytes().size() != 256) throw py::value_error("map must have 256 entries");
    if (in.size() != classes.size()) throw py::value_error("there must be as many parts as classes");
    constexpr int kMost = 16383;
    if (std::abs(own) > kMost ||
        std::any_of(in.begin(), in.end(), [](std::int16_t part) { return std::abs(int{part}) > kMost; }))
        throw py::value_error("own and parts must be -16383 to 16383");
    class_order::Map of;
    std::copy_n(table.bytes().begin(), 256, of.begin());
    const py::gil_scoped_release nogil;
    class_order::classes_of_row(own, in, of, classes);
}

class_order::Counts counts_of(const py::object& classes, std::size_t n_classes) {
    const BufferView of(classes, "classes");
    const ByteView in = of.bytes();
    const py::gil_scoped_release nogil;
    if (std::any_of(in.begin(), in.end(), [n_classes](std::uint8_t c) { return c >= n_classes; }))
        throw ArgumentError("a class is not below n_classes");
    return class_order::counts_of(in, n_classes);
}

}  // namespace

void register_trellis(py::module_& m) {
    py::class_<trellis::Quantiser>(m, "TrellisQuantiser", "Finds the levels of least error + lambda * bits.")
        .def(py::init([](const py::object& costs, std::size_t contexts, int radius, unsigned states,
                         const std::string& alphabet, std::uint32_t lambda) {
                 const BufferView view(costs, "costs");
                 return trellis::Quantiser({states, to_alphabet(alphabet), lambda}, {contexts, radius},
                                           view.as<std::uint16_t>("costs"));
             }),
             "costs"_a, "contexts"_a, "radius"_a, "states"_a = 8, "alphabet"_a = "plain", "lambda_"_a = 24227)
        .def(
            "quantise",
            [](const trellis::Quantiser& self, const py::object& values, const py::object& levels, float step,
               std::size_t lanes, const py::object& contexts) {
                const BufferView from(values, "values");
                const BufferView to(levels, "levels", true);
                const OptionalView<std::uint8_t> context(contexts, "contexts");
                const auto in = from.as<float>("values");
                const auto out = writable<std::int16_t>(to, "levels");
                const py::gil_scoped_release nogil;
                self.quantise(in, step, context.span(), lanes, out);
            },
            "values"_a, "levels"_a, "step"_a, "lanes"_a = 32, "contexts"_a = py::none(),
            "Fill `levels` (int16) with the levels of `values` (float32).");

    py::class_<trellis::Statistics>(m, "TrellisStatistics", "Counts and errors per context, union and level.")
        .def(py::init<>())
        .def(
            "add",
            [](trellis::Statistics& self, const py::object& values, const py::object& levels, float step,
               std::size_t n_contexts, int radius, unsigned states, const std::string& alphabet,
               std::size_t lanes, const py::object& contexts) {
                const BufferView value_view(values, "values");
                const BufferView level_view(levels, "levels");
                const OptionalView<std::uint8_t> context(contexts, "contexts");
                const auto kind = to_alphabet(alphabet);
                const auto in = value_view.as<float>("values");
                const auto at = level_view.as<std::int16_t>("levels");
                const py::gil_scoped_release nogil;
                trellis::accumulate(in, at, trellis::code_of(states), kind, step, context.span(), lanes,
                                    {n_contexts, radius}, self);
            },
            "values"_a, "levels"_a, "step"_a, "n_contexts"_a, "radius"_a, "states"_a = 8,
            "alphabet"_a = "plain", "lanes"_a = 32, "contexts"_a = py::none())
        .def_readonly("counts", &trellis::Statistics::counts)
        .def_readonly("errors", &trellis::Statistics::errors)
        .def_readonly("squared_error", &trellis::Statistics::squared_error)
        .def(
            "centroids",
            [](const trellis::Statistics& self, std::size_t contexts, int radius, int reach) {
                return trellis::centroids(self, {contexts, radius}, reach);
            },
            "contexts"_a, "radius"_a, "reach"_a)
        .def(
            "costs",
            [](const trellis::Statistics& self, std::size_t contexts, int radius) {
                return trellis::costs_of(self.counts, {contexts, radius});
            },
            "contexts"_a, "radius"_a);

    m.def("trellis_dequantise", &trellis_dequantise, "levels"_a, "out"_a, "step"_a, "states"_a = 8,
          "alphabet"_a = "plain", "lanes"_a = 32, "contexts"_a = py::none(), "offsets"_a = py::none(),
          "reach"_a = 0, "n_contexts"_a = 1, "Fill `out` (float32) with the values of `levels` (int16).");
    m.def("class_order_restore", &restore_order, "classes"_a, "values"_a, "out"_a, "n_classes"_a = 256,
          "Fill `out` (int16) with `values` that come by class: those of class 0, in order, then of class 1. "
          "All classes are below `n_classes`; fastest where there are few.");
    m.def("class_order_classes_of_row", &classes_of_row, "own"_a, "parts"_a, "map"_a, "out"_a,
          "Fill `out` (uint8) with map[own + part], each sum clamped to 0 .. 255.");
    m.def("class_order_counts", &counts_of, "classes"_a, "n_classes"_a = 256,
          "How often each of the classes 0 .. 255 occurs.");
    m.def(
        "trellis_parametric_table",
        [](unsigned scale, unsigned shape, unsigned radius, const std::string& alphabet,
           unsigned union_index) {
            if (scale > 255 || shape > trellis::kMaxShape || radius < 1 ||
                radius > trellis::kMaxSymbolRadius || union_index > 1)
                throw py::value_error("parameters are out of range");
            return trellis::parametric_table(
                       {static_cast<std::uint8_t>(scale), static_cast<std::uint8_t>(shape),
                        static_cast<std::uint8_t>(radius)},
                       to_alphabet(alphabet), union_index)
                .of;
        },
        "scale"_a, "shape"_a, "radius"_a, "alphabet"_a, "union_index"_a,
        "Frequencies (of 4096) of symbols; none where no level has a weight.");
}

}  // namespace nncodec::python
