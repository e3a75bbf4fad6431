#include "python/convert.hpp"
#include "quantize/float_source.hpp"
#include "quantize/scales.hpp"
#include "quantize/uniform.hpp"

namespace nncodec::python {
namespace {

std::span<const float> optional_floats(const py::object& object, std::optional<BufferView>& view,
                                       const char* name) {
    if (object.is_none()) return {};
    view.emplace(object, name);
    return view->as<float>(name);
}

template <typename T>
py::bytes raw(const std::vector<T>& values) {
    return {reinterpret_cast<const char*>(values.data()), values.size() * sizeof(T)};
}

void register_float_source(py::module_& m) {
    py::class_<FloatStatistics>(m, "FloatStatistics")
        .def_readonly("energy", &FloatStatistics::energy)
        .def_readonly("largest", &FloatStatistics::largest)
        .def_readonly("nonfinite", &FloatStatistics::nonfinite);
    m.def(
        "float_statistics",
        [](const py::object& data, std::uint8_t dtype, const py::object& importance, std::size_t threads) {
            const BufferView view(data, "data");
            std::optional<BufferView> weights_view;
            const auto weights = optional_floats(importance, weights_view, "importance");
            const FloatSource source(static_cast<DType>(dtype), view.bytes());
            if (!weights.empty() && weights.size() != source.size()) {
                throw py::value_error("importance has " + std::to_string(weights.size()) +
                                      " elements, data has " + std::to_string(source.size()));
            }
            const py::gil_scoped_release nogil;
            return float_statistics(source, weights, threads);
        },
        "data"_a, "dtype"_a, "importance"_a = py::none(), "threads"_a = 0,
        "Weighted energy, largest magnitude and number of NaN or infinite elements.");
    m.def(
        "round_to",
        [](std::uint8_t dtype, double value) { return round_to(static_cast<DType>(dtype), value); },
        "dtype"_a, "value"_a, "Bits of a value rounded to an element type.");
}

void register_scales(py::module_& m) {
    m.def("fixed_log2", &scales::fixed_log2, "value"_a, "log2 in units of 2^-16, rounded down.");
    m.def(
        "fit_scales",
        [](const py::object& data, std::uint8_t dtype, std::size_t rows, std::size_t columns,
           std::size_t repeat, unsigned axes, std::size_t threads) {
            const BufferView view(data, "data");
            const FloatSource source(static_cast<DType>(dtype), view.bytes());
            const scales::View matrix{rows, columns, repeat};
            if (axes > 3 || rows * columns * repeat != source.size()) {
                throw py::value_error(
                    "rows * columns * repeat must be the number of elements, axes at most 3");
            }
            scales::Scales fitted;
            {
                const py::gil_scoped_release nogil;
                fitted = scales::fit(source, 0, matrix, static_cast<scales::Axes>(axes), threads);
            }
            return py::make_tuple(raw(fitted.row), raw(fitted.column), fitted.base);
        },
        "data"_a, "dtype"_a, "rows"_a, "columns"_a, "repeat"_a, "axes"_a, "threads"_a = 0,
        "Row and column scale indices of a matrix (bytes, bytes), and the absolute index of context 0.");
}

rans::Layout layout_of(std::size_t n, std::size_t columns, const BufferView& row, const BufferView& column) {
    const rans::Layout layout{n, columns, row.bytes(), column.bytes()};
    if (columns == 0 || (!row.bytes().empty() && row.bytes().size() != (n + columns - 1) / columns) ||
        (!column.bytes().empty() && column.bytes().size() != columns)) {
        throw py::value_error("row_context or column_context does not fit n and columns");
    }
    return layout;
}

std::size_t contexts_of(const rans::Layout& layout) {
    std::size_t row = 0;
    std::size_t column = 0;
    for (const std::uint8_t c : layout.row_context) row = std::max<std::size_t>(row, c);
    for (const std::uint8_t c : layout.column_context) column = std::max<std::size_t>(column, c);
    return row + column + 1;
}

void register_uniform(py::module_& m) {
    m.def(
        "uniform_thresholds",
        [](const py::object& bits, const py::object& offsets, double strength) {
            const BufferView bits_view(bits, "bits");
            const BufferView offsets_view(offsets, "offsets");
            const auto costs = bits_view.as<std::uint32_t>("bits");
            uniform::Offsets of{};
            if (costs.size() < uniform::kDirectTokens || offsets_view.bytes().size() != of.size()) {
                throw py::value_error("bits needs 63 entries, offsets 65");
            }
            std::memcpy(of.data(), offsets_view.bytes().data(), of.size());
            const auto t = uniform::rate_aware_thresholds(costs, of, strength);
            return py::make_tuple(std::vector<double>(t.middle.begin(), t.middle.end()),
                                  std::vector<double>(t.slope.begin(), t.slope.end()));
        },
        "bits"_a, "offsets"_a, "lambda_"_a, "Decision thresholds of one table: (middle, slope), by token.");
    m.def(
        "uniform_quantise",
        [](const py::object& data, std::uint8_t dtype, double step, std::size_t columns,
           const py::object& row, const py::object& column,
           const std::vector<std::pair<std::vector<double>, std::vector<double>>>& rules,
           const py::object& importance) {
            const BufferView view(data, "data");
            const BufferView row_view(row, "row_context");
            const BufferView column_view(column, "column_context");
            std::optional<BufferView> weights_view;
            const auto weights = optional_floats(importance, weights_view, "importance");
            const FloatSource source(static_cast<DType>(dtype), view.bytes());
            const rans::Layout layout = layout_of(source.size(), columns, row_view, column_view);
            std::vector<uniform::Thresholds> thresholds(rules.size());
            if (contexts_of(layout) > rules.size()) throw py::value_error("a context has no thresholds");
            if (!weights.empty() && weights.size() != source.size())
                throw py::value_error("importance: wrong size");
            for (std::size_t i = 0; i < rules.size(); ++i) {
                if (rules[i].first.size() != uniform::kDirectTokens ||
                    rules[i].second.size() != uniform::kDirectTokens) {
                    throw py::value_error("thresholds have 63 entries");
                }
                std::copy(rules[i].first.begin(), rules[i].first.end(), thresholds[i].middle.begin());
                std::copy(rules[i].second.begin(), rules[i].second.end(), thresholds[i].slope.begin());
            }
            Bytes tokens(source.size());
            Bytes extra;
            {
                const py::gil_scoped_release nogil;
                uniform::quantise(source, 0, layout, weights, {1 / step, 1, thresholds}, tokens, &extra,
                                  nullptr);
            }
            return py::make_tuple(to_bytes(tokens), to_bytes(extra));
        },
        "data"_a, "dtype"_a, "step"_a, "columns"_a, "row_context"_a, "column_context"_a, "thresholds"_a,
        "importance"_a = py::none(), "Tokens and raw bits of a tensor.");
    m.def(
        "uniform_dequantise",
        [](const py::object& tokens, const py::object& extra, std::uint8_t dtype, double step,
           std::size_t columns, const py::object& row, const py::object& column, const py::object& offsets,
           const py::object& table_of, const py::object& out) {
            const BufferView tokens_view(tokens, "tokens");
            const BufferView extra_view(extra, "extra");
            const BufferView row_view(row, "row_context");
            const BufferView column_view(column, "column_context");
            const BufferView offsets_view(offsets, "offsets");
            const BufferView table_view(table_of, "table_of");
            const BufferView out_view(out, "out", true);
            const rans::Layout layout = layout_of(tokens_view.bytes().size(), columns, row_view, column_view);
            std::vector<uniform::Offsets> of(offsets_view.bytes().size() / uniform::kOffsets);
            if (of.size() * uniform::kOffsets != offsets_view.bytes().size()) {
                throw py::value_error("offsets has 65 bytes per table");
            }
            std::memcpy(of.data(), offsets_view.bytes().data(), offsets_view.bytes().size());
            for (const std::uint8_t table : table_view.bytes()) {
                if (table >= of.size()) throw py::value_error("table_of names a table without offsets");
            }
            if (contexts_of(layout) > table_view.bytes().size())
                throw py::value_error("a context has no table");
            if (!is_quantisable(static_cast<DType>(dtype)) ||
                out_view.bytes().size() != layout.n * number_format(dtype).bytes) {
                throw py::value_error("out does not fit the tokens");
            }
            const py::gil_scoped_release nogil;
            uniform::Dequantiser(static_cast<DType>(dtype), step, of, table_view.bytes())
                .run(tokens_view.bytes(), layout, extra_view.bytes(), out_view.writable_bytes());
        },
        "tokens"_a, "extra"_a, "dtype"_a, "step"_a, "columns"_a, "row_context"_a, "column_context"_a,
        "offsets"_a, "table_of"_a, "out"_a, "Fill `out` with the values of tokens and raw bits.");
}

}  // namespace

void register_quantize(py::module_& m) {
    register_float_source(m);
    register_scales(m);
    register_uniform(m);
}

}  // namespace nncodec::python
