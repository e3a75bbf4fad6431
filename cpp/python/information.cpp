#include <algorithm>
#include <cmath>
#include <vector>

#include "information/kernel_sums.hpp"
#include "python/convert.hpp"

namespace nncodec::python {
namespace {

void sums_of_kernels(const py::object& points, std::size_t dimensions, const py::object& class_ends,
                     const py::object& sums, std::size_t threads) {
    const BufferView points_view(points, "points");
    const BufferView ends_view(class_ends, "class_ends");
    const BufferView sums_view(sums, "sums", true);
    const auto values = points_view.as<float>("points");
    const auto shared_ends = ends_view.as<std::uint32_t>("class_ends");
    // A copy: they say where to write, and other threads may change the caller's while the lock is off.
    const std::vector<std::uint32_t> ends(shared_ends.begin(), shared_ends.end());
    const auto to = sums_view.writable_as<double>("sums");
    const std::size_t n = ends.empty() ? 0 : ends.back();
    if (dimensions == 0 || values.size() % dimensions != 0 || values.size() / dimensions != n)
        throw py::value_error("points must be as many rows of `dimensions` numbers as class_ends says");
    if (!std::is_sorted(ends.begin(), ends.end())) throw py::value_error("class_ends must ascend");
    if (to.size() != n * kKernelSums) throw py::value_error("sums must hold four numbers per point");
    for (const float value : values) {
        if (!(std::fabs(value) <= kKernelLargest))
            throw py::value_error("points must be finite and at most 1e15");
    }
    const py::gil_scoped_release nogil;  // only raw spans below
    kernel_sums(values, dimensions, ends, to, threads);
}

}  // namespace

void register_information(py::module_& m) {
    m.def("kernel_sums", &sums_of_kernels, "points"_a, "dimensions"_a, "class_ends"_a, "sums"_a,
          "threads"_a = 0,
          "Sums of Gaussian kernels between all pairs of points: all and own class, narrow and wide.");
}

}  // namespace nncodec::python
