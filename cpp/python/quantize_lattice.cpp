#include "python/convert.hpp"
#include "quantize/lattice.hpp"

namespace nncodec::python {
namespace {

using lattice::Lattice;

void check_size(Lattice kind, std::size_t n, const char* name) {
    const std::size_t dimension = lattice::dimension(kind);
    if (n % dimension != 0) {
        throw py::value_error(std::string(name) + " has " + std::to_string(n) + " elements, no multiple of " +
                              std::to_string(dimension));
    }
}

}  // namespace

Lattice lattice_named(const std::string& name) {
    constexpr std::array<const char*, lattice::kLattices> kNames{"z", "a2", "d4", "e8", "leech"};
    for (unsigned i = 0; i < kNames.size(); ++i) {
        if (name == kNames[i]) return static_cast<Lattice>(i);
    }
    throw py::value_error("lattice must be 'z', 'a2', 'd4', 'e8' or 'leech', got '" + name + "'");
}

void register_lattice(py::module_& m) {
    m.def(
        "lattice_nearest",
        [](const std::string& name, const py::object& x, const py::object& out) {
            const Lattice kind = lattice_named(name);
            const BufferView from(x, "x");
            const BufferView to(out, "out", true);
            const auto in = from.as<double>("x");
            const auto points = to.writable_as<double>("out");
            check_size(kind, in.size(), "x");
            if (points.size() != in.size()) throw py::value_error("out must be as large as x");
            for (const double v : in) {
                if (!(v >= -0x1p32 && v <= 0x1p32)) throw py::value_error("x has an element beyond 2**32");
            }
            const py::gil_scoped_release nogil;
            lattice::nearest(kind, in, points);
        },
        "lattice"_a, "x"_a, "out"_a, "Nearest points in natural coordinates, float64.");
    m.def(
        "lattice_dither",
        [](const std::string& name, std::uint64_t key, std::uint64_t first, const py::object& out) {
            const Lattice kind = lattice_named(name);
            const BufferView to(out, "out", true);
            const auto values = to.writable_as<double>("out");
            check_size(kind, values.size(), "out");
            const py::gil_scoped_release nogil;
            lattice::dither(kind, key, first, values);
        },
        "lattice"_a, "key"_a, "first"_a, "out"_a,
        "Dither of the vectors from `first` on, in natural coordinates.");
    m.def("lattice_random_bits", &lattice::random_bits, "key"_a, "counter"_a,
          "64 bits of the counter-based generator.");
    m.def(
        "lattice_scale",
        [](const std::string& name, std::size_t axis) {
            return lattice::natural_scale(lattice_named(name), axis);
        },
        "lattice"_a, "axis"_a, "What a natural coordinate is multiplied with for cells of volume 1.");
    m.def(
        "lattice_code",
        [](const std::string& name, const py::object& point) {
            const Lattice kind = lattice_named(name);
            const BufferView from(point, "point");
            const auto x = from.as<double>("point");
            if (x.size() != lattice::dimension(kind)) throw py::value_error("point has another dimension");
            const lattice::Code code = lattice::code_of(kind, x);
            return py::make_tuple(
                code.coset,
                std::vector<std::int32_t>(code.integer.begin(),
                                          code.integer.begin() + static_cast<std::ptrdiff_t>(x.size())));
        },
        "lattice"_a, "point"_a, "Coset and integers of a lattice point.");
    m.def(
        "lattice_point",
        [](const std::string& name, std::uint32_t coset, const std::vector<std::int32_t>& integers) {
            const Lattice kind = lattice_named(name);
            if (integers.size() != lattice::dimension(kind) || coset >> lattice::coset_bits(kind) != 0) {
                throw py::value_error("coset or integers do not fit the lattice");
            }
            lattice::Axes axes(kind, coset);
            std::vector<double> point;
            for (const std::int32_t integer : integers) {
                point.push_back(lattice::coordinate(kind, axes.kind(), integer));
                axes.take(integer);
            }
            return point;
        },
        "lattice"_a, "coset"_a, "integers"_a, "The point of a coset and integers.");
}

}  // namespace nncodec::python
