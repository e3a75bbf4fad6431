#include "base/dtype.hpp"
#include "python/convert.hpp"
#include "transform/float_planes.hpp"

namespace nncodec::python {
namespace {

NumberFormat float_format(std::uint8_t dtype) {
    const NumberFormat format = number_format(dtype);
    if (format.exponent_bits == 0) throw py::value_error("dtype must be a float of two bytes or more");
    return format;
}

planes::RawBits raw_bits(const NumberFormat& format, unsigned zeros, bool plus) {
    if (zeros > format.mantissa_bits) throw py::value_error("zeros must not exceed the mantissa's bits");
    return {zeros, plus};
}

planes::SymbolMap symbol_map(const NumberFormat& format, bool sparse, bool escaped, std::int32_t base) {
    if (sparse && !escaped) throw py::value_error("a sparse map must be escaped");
    if (!escaped && (base != 0 || format.exponent_bits > 8))
        throw py::value_error("this map must be escaped");
    return {sparse, escaped, base};
}

py::tuple split_numbers(const py::object& numbers, std::uint8_t dtype, unsigned zeros, bool plus, bool sparse,
                        bool escaped, std::int32_t base) {
    const BufferView view(numbers, "numbers");
    const NumberFormat format = float_format(dtype);
    const planes::RawBits raw = raw_bits(format, zeros, plus);
    const planes::SymbolMap map = symbol_map(format, sparse, escaped, base);
    if (view.bytes().size() % format.bytes != 0) throw py::value_error("numbers must be whole");
    const std::size_t n = view.bytes().size() / format.bytes;
    Bytes symbols(n);
    std::vector<Bytes> bytes(raw.bytes(format), Bytes(n));
    Bytes low(raw.low(format) != 0 ? n : 0);
    planes::Planes to;
    to.low = low.data();
    for (std::size_t p = 0; p < bytes.size(); ++p) to.bytes[p] = bytes[p].data();
    {
        const py::gil_scoped_release nogil;
        planes::split_all(format, map, raw, view.bytes().data(), n, symbols.data(), to);
    }
    py::list planes;
    for (const Bytes& plane : bytes) planes.append(to_bytes(plane));
    return py::make_tuple(to_bytes(symbols), to_bytes(low), planes);
}

void join(const py::object& symbols, const py::object& low, const py::sequence& planes, const py::object& out,
          std::uint8_t dtype, unsigned zeros, bool plus, bool sparse, bool escaped, std::int32_t base,
          bool past_caches) {
    const NumberFormat format = float_format(dtype);
    const planes::RawBits raw = raw_bits(format, zeros, plus);
    const planes::SymbolMap map = symbol_map(format, sparse, escaped, base);
    const BufferView symbol_view(symbols, "symbols");
    const BufferView low_view(low, "low");
    const BufferView to(out, "out", true);
    const std::size_t n = symbol_view.bytes().size();
    std::vector<BufferView> views;
    planes::ConstPlanes from;
    from.low = low_view.bytes().data();
    if (to.bytes().size() != n * format.bytes) throw py::value_error("out must hold one number per symbol");
    if (low_view.bytes().size() != (raw.low(format) != 0 ? n : 0))
        throw py::value_error("low has the wrong length");
    if (planes.size() != raw.bytes(format))
        throw py::value_error("planes must be as many as there are raw bytes");
    for (const py::handle plane : planes) {
        const BufferView& view = views.emplace_back(plane, "plane");
        if (view.bytes().size() != n) throw py::value_error("a plane has the wrong length");
        from.bytes[views.size() - 1] = view.bytes().data();
    }
    const py::gil_scoped_release nogil;
    planes::join(format, map, raw, symbol_view.bytes().data(), n, from, to.writable_bytes().data(),
                 past_caches ? planes::Destination::memory : planes::Destination::caches);
    if (past_caches) planes::finish_memory();
}

}  // namespace

void register_transform(py::module_& m) {
    m.def("float_planes_split", &split_numbers, "numbers"_a, "dtype"_a, "zeros"_a = 0, "plus"_a = false,
          "sparse"_a = false, "escaped"_a = false, "base"_a = 0,
          "Floats to (exponent symbols, low bits, list of byte planes).");
    m.def("float_planes_join", &join, "symbols"_a, "low"_a, "planes"_a, "out"_a, "dtype"_a, "zeros"_a = 0,
          "plus"_a = false, "sparse"_a = false, "escaped"_a = false, "base"_a = 0, "past_caches"_a = false,
          "The inverse, into `out`; escaped exponents and sparse zeros are left to the caller.");
    m.def(
        "pack_bits",
        [](const py::object& values, unsigned bits) {
            const BufferView view(values, "values");
            if (bits < 1 || bits > 7) throw py::value_error("bits must be 1 to 7");
            Bytes out(planes::packed_bits_size(view.bytes().size(), bits));
            {
                const py::gil_scoped_release nogil;
                planes::pack_bits(view.bytes().data(), view.bytes().size(), bits, out.data());
            }
            return to_bytes(out);
        },
        "values"_a, "bits"_a, "Values below 2**bits to bit planes.");
    m.def(
        "unpack_bits",
        [](const py::object& packed, const py::object& out, unsigned bits) {
            const BufferView view(packed, "packed");
            const BufferView to(out, "out", true);
            if (bits < 1 || bits > 7) throw py::value_error("bits must be 1 to 7");
            if (view.bytes().size() != planes::packed_bits_size(to.bytes().size(), bits)) {
                throw py::value_error("packed has the wrong length");
            }
            const py::gil_scoped_release nogil;
            planes::unpack_bits(view.bytes().data(), to.bytes().size(), bits, to.writable_bytes().data());
        },
        "packed"_a, "out"_a, "bits"_a, "Bit planes to values.");
}

}  // namespace nncodec::python
