#include "quantize/ternary.hpp"

#include <cmath>

#include "entropy/ternary_rans.hpp"
#include "entropy/zero_run.hpp"
#include "python/convert.hpp"

namespace nncodec::python {
namespace {

// Numbers of a supported type, aligned.
struct Numbers {
    DType dtype;
    void* data;
    std::size_t n;
};

Numbers numbers_of(const BufferView& view, std::uint8_t code, const char* name) {
    const auto dtype = static_cast<DType>(code);
    if (!ternary::is_supported(dtype)) throw py::value_error("dtype must be float32, float16 or bfloat16");
    const std::size_t n =
        dtype == DType::float32 ? view.as<float>(name).size() : view.as<std::uint16_t>(name).size();
    return {dtype, view.writable_bytes().data(), n};
}

// The residual of `n` numbers, or null.
float* residual_of(const py::object& object, std::optional<BufferView>& view, std::size_t n) {
    if (object.is_none()) return nullptr;
    view.emplace(object, "residual", true);
    const auto residual = view->writable_as<float>("residual");
    if (residual.size() != n) {
        throw py::value_error("residual has " + std::to_string(residual.size()) + " elements, values " +
                              std::to_string(n));
    }
    return residual.data();
}

ternary::Layout layout_of(const std::string& name) {
    if (name == "planar") return ternary::Layout::planar;
    if (name == "consecutive") return ternary::Layout::consecutive;
    throw py::value_error("layout must be 'planar' or 'consecutive'");
}

void check_packed(ByteView packed, std::size_t n) {
    if (packed.size() != ternary::packed_size(n)) {
        throw py::value_error("packed has " + std::to_string(packed.size()) + " bytes, not " +
                              std::to_string(ternary::packed_size(n)));
    }
}

float absmax(const py::object& values, std::uint8_t dtype, const py::object& residual) {
    const BufferView view(values, "values");
    const Numbers numbers = numbers_of(view, dtype, "values");
    std::optional<BufferView> residual_view;
    const float* const r = residual_of(residual, residual_view, numbers.n);
    const py::gil_scoped_release nogil;
    return ternary::absmax(numbers.dtype, numbers.data, r, numbers.n);
}

void quantise(const py::object& values, std::uint8_t dtype, const py::object& residual, float scale,
              const std::string& layout, const py::object& packed) {
    const BufferView view(values, "values");
    const Numbers numbers = numbers_of(view, dtype, "values");
    std::optional<BufferView> residual_view;
    float* const r = residual_of(residual, residual_view, numbers.n);
    const ternary::Layout order = layout_of(layout);
    const BufferView out(packed, "packed", true);
    check_packed(out.bytes(), numbers.n);
    if (!(scale >= 0) || !std::isfinite(scale))
        throw py::value_error("scale must be finite and not negative");
    const py::gil_scoped_release nogil;
    ternary::quantise(numbers.dtype, numbers.data, r, numbers.n, scale, order, out.writable_bytes().data());
}

void expand(const py::object& packed, const py::object& out, std::uint8_t dtype, float scale,
            const std::string& layout, bool accumulate) {
    const BufferView from(packed, "packed");
    const BufferView to(out, "out", true);
    const Numbers numbers = numbers_of(to, dtype, "out");
    const ternary::Layout order = layout_of(layout);
    check_packed(from.bytes(), numbers.n);
    if (!std::isfinite(scale)) throw py::value_error("scale must be finite");
    const py::gil_scoped_release nogil;
    if (!ternary::within_digits(from.bytes())) throw ArgumentError("packed has a byte above 242");
    ternary::expand(numbers.dtype, from.bytes().data(), numbers.n, scale, order, accumulate, numbers.data);
}

py::bytes zero_run_encode(const py::object& packed) {
    const BufferView view(packed, "packed");
    Bytes out(view.bytes().size());
    {
        const py::gil_scoped_release nogil;
        if (!ternary::within_digits(view.bytes())) throw ArgumentError("packed has a byte above 242");
        out.resize(zero_run::encode(view.bytes(), out.data()));
    }
    return to_bytes(out);
}

py::bytes zero_run_decode(const py::object& coded, std::size_t size) {
    const BufferView view(coded, "coded");
    Bytes out;
    {
        const py::gil_scoped_release nogil;
        if (size > view.bytes().size() * zero_run::kLongestRun) check(Status::truncated, "zero runs");
        out.resize(size + zero_run::kSlack);
        check(zero_run::decode(view.bytes(), std::span(out).first(size)), "zero runs");
        out.resize(size);
    }
    return to_bytes(out);
}

py::bytes rans_encode(const py::object& packed) {
    const BufferView view(packed, "packed");
    Bytes out;
    {
        const py::gil_scoped_release nogil;
        if (!ternary::within_digits(view.bytes())) throw ArgumentError("packed has a byte above 242");
        ternary_rans::encode(view.bytes(), out);
    }
    return to_bytes(out);
}

void rans_decode(const py::object& coded, const py::object& packed) {
    const BufferView view(coded, "coded");
    const BufferView out(packed, "packed", true);
    const py::gil_scoped_release nogil;
    ternary_rans::decode(view.bytes(), out.writable_bytes());
}

}  // namespace

void register_ternary(py::module_& m) {
    m.def("ternary_absmax", &absmax, "values"_a, "dtype"_a, "residual"_a = py::none(),
          "Largest |residual + value|; infinity where something is not finite.");
    m.def("ternary_scale", &ternary::scale_of, "absmax"_a, "sparsity_multiplier"_a,
          "M = absmax * sparsity_multiplier; 0 where that is too small.");
    m.def("ternary_quantise", &quantise, "values"_a, "dtype"_a, "residual"_a, "scale"_a, "layout"_a,
          "packed"_a, "Quantise residual + values, keep the residual, pack the digits.");
    m.def("ternary_expand", &expand, "packed"_a, "out"_a, "dtype"_a, "scale"_a, "layout"_a,
          "accumulate"_a = false, "Unpack digits and set `out` to scale times them, or add that to it.");
    m.def("zero_run_encode", &zero_run_encode, "packed"_a, "Zero runs of base-3^5 bytes.");
    m.def("zero_run_decode", &zero_run_decode, "coded"_a, "size"_a, "The inverse, `size` bytes.");
    m.def("ternary_rans_encode", &rans_encode, "packed"_a, "rANS of base-3^5 bytes.");
    m.def("ternary_rans_decode", &rans_decode, "coded"_a, "packed"_a, "The inverse, into `packed`.");
}

}  // namespace nncodec::python
