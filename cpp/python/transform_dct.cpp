#include "python/convert.hpp"
#include "transform/dct.hpp"

namespace nncodec::python {
namespace {

void run(const py::object& numbers, std::size_t height, std::size_t width, const py::object& out,
         bool forward) {
    const BufferView from(numbers, "numbers");
    const BufferView to(out, "out", true);
    const auto x = from.as<float>("numbers");
    const auto y = to.writable_as<float>("out");
    if (!dct::Transform::possible(height, width))
        throw py::value_error("height and width must be 1 to 64, their product at most 256");
    if (x.size() != y.size() || x.size() % (height * width) != 0)
        throw py::value_error("numbers and out must be as many whole blocks");
    const py::gil_scoped_release nogil;
    const dct::Transform transform(height, width);
    forward ? transform.forward(x, y) : transform.inverse(x, y);
}

}  // namespace

void register_transform_dct(py::module_& m) {
    m.def(
        "dct_forward",
        [](const py::object& numbers, std::size_t height, std::size_t width, const py::object& out) {
            run(numbers, height, width, out, true);
        },
        "numbers"_a, "height"_a, "width"_a, "out"_a,
        "Orthonormal DCT-II of float32 blocks of height x width, one after the other, into `out`.");
    m.def(
        "dct_inverse",
        [](const py::object& coefficients, std::size_t height, std::size_t width, const py::object& out) {
            run(coefficients, height, width, out, false);
        },
        "coefficients"_a, "height"_a, "width"_a, "out"_a, "The inverse.");
}

}  // namespace nncodec::python
