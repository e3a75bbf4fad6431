#include "python/convert.hpp"
#include "quantize/feedback.hpp"
#include "quantize/root.hpp"

namespace nncodec::python {
namespace {

template <typename T>
class Optional {
  public:
    Optional(const py::object& object, const char* name) {
        if (!object.is_none()) span_ = view_.emplace(object, name).template as<T>(name);
    }
    std::span<const T> span() const noexcept { return span_; }

  private:
    std::optional<BufferView> view_;
    std::span<const T> span_;
};

trellis::Alphabet alphabet_of(const std::string& name) {
    if (name == "plain") return trellis::Alphabet::plain;
    if (name == "both_zero") return trellis::Alphabet::both_zero;
    throw py::value_error("alphabet is '" + name + "', not 'plain' or 'both_zero'");
}

}  // namespace

void register_feedback(py::module_& m) {
    m.def(
        "feedback_quantise",
        [](const py::object& weights, const py::object& levels, const py::object& targets, std::size_t rows,
           std::size_t columns, const std::vector<std::size_t>& strands, const py::object& input,
           const py::object& output, const py::object& costs, std::size_t n_contexts, int radius,
           unsigned states, const std::string& alphabet, std::uint32_t lambda, const py::object& offsets,
           int reach, const py::object& contexts, std::size_t delay, std::size_t threads) {
            const BufferView from(weights, "weights");
            const BufferView level_view(levels, "levels", true);
            const BufferView target_view(targets, "targets", true);
            const BufferView cost_view(costs, "costs");
            const Optional<float> in(input, "input");
            const Optional<float> out(output, "output");
            const Optional<std::int16_t> centroids(offsets, "offsets");
            const Optional<std::uint8_t> classes(contexts, "contexts");
            const trellis::Alphabet kind = alphabet_of(alphabet);
            const feedback::Model model{{states, kind, lambda},
                                        {n_contexts, radius},
                                        cost_view.as<std::uint16_t>("costs"),
                                        {kind, n_contexts, reach, centroids.span()},
                                        classes.span()};
            const auto values = from.as<float>("weights");
            const feedback::Output to{level_view.writable_as<std::int16_t>("levels"),
                                      target_view.writable_as<float>("targets")};
            const py::gil_scoped_release nogil;
            return feedback::quantise(model, {rows, columns, strands}, values, {in.span(), out.span()}, delay,
                                      threads, to);
        },
        "weights"_a, "levels"_a, "targets"_a, "rows"_a, "columns"_a, "strands"_a, "input"_a, "output"_a,
        "costs"_a, "n_contexts"_a, "radius"_a, "states"_a, "alphabet"_a, "lambda_"_a,
        "offsets"_a = py::none(), "reach"_a = 0, "contexts"_a = py::none(), "delay"_a = 64, "threads"_a = 1,
        "Fill `levels` (int16) and `targets` (float32), for `weights` in steps with error feedback; returns "
        "the error.");
    m.def(
        "feedback_levels",
        [](const py::object& weights, const py::object& levels, std::size_t rows, std::size_t columns,
           const std::vector<std::size_t>& strands, const py::object& input, const py::object& output,
           unsigned states, const std::string& alphabet, std::uint32_t lambda, std::size_t delay,
           unsigned passes, std::size_t threads) {
            const BufferView from(weights, "weights");
            const BufferView to(levels, "levels", true);
            const Optional<float> in(input, "input");
            const Optional<float> out(output, "output");
            const feedback::Plan plan{{states, alphabet_of(alphabet), lambda}, delay, passes};
            const auto values = from.as<float>("weights");
            const auto found = to.writable_as<std::int16_t>("levels");
            const py::gil_scoped_release nogil;
            return feedback::choose_levels(plan, {rows, columns, strands}, values, {in.span(), out.span()},
                                           threads, found);
        },
        "weights"_a, "levels"_a, "rows"_a, "columns"_a, "strands"_a, "input"_a, "output"_a, "states"_a,
        "alphabet"_a, "lambda_"_a = 24227, "delay"_a = 64, "passes"_a = 2, "threads"_a = 1,
        "Fill `levels` (int16) for `weights` (float32, in steps); returns the squared error in steps.");
    m.def(
        "lower_root",
        [](const py::object& matrix, std::size_t n) {
            const BufferView view(matrix, "matrix", true);
            const auto values = view.writable_as<double>("matrix");
            const py::gil_scoped_release nogil;
            lower_root(values, n);
        },
        "matrix"_a, "n"_a, "Replace A (float64, n x n) by the lower triangular L with A = L^T L.");
}

}  // namespace nncodec::python
