// Table of contents of nncodec._core.
#include "base/dispatch.hpp"
#include "base/error.hpp"
#include "python/convert.hpp"

namespace nncodec::python {

// One per file of this folder.
void register_base(py::module_& m);
void register_entropy(py::module_& m);
void register_quantize(py::module_& m);
void register_rans_trellis(py::module_& m);
void register_trellis(py::module_& m);
void register_transform(py::module_& m);
void register_transform_klt(py::module_& m);
void register_transform_dct(py::module_& m);
void register_information(py::module_& m);
void register_retrieval(py::module_& m);
void register_quantize_codebook(py::module_& m);
void register_codecs_codebook(py::module_& m);
void register_codecs_transform(py::module_& m);
void register_codecs(py::module_& m);
void register_container(py::module_& m);
void register_lossless(py::module_& m);
void register_ternary(py::module_& m);
void register_codecs_ternary(py::module_& m);
void register_codecs_uniform(py::module_& m);
void register_codecs_universal(py::module_& m);
void register_lattice(py::module_& m);
void register_universal_coders(py::module_& m);
void register_codecs_weightless(py::module_& m);
void register_codecs_trellis(py::module_& m);
void register_codecs_lowrank(py::module_& m);
void register_feedback(py::module_& m);

namespace {

void register_errors() {
    // The Python classes live in nncodec/errors.py; this is the one place where engine errors become them.
    py::register_exception_translator([](std::exception_ptr failure) {
        try {
            if (failure) std::rethrow_exception(failure);
        } catch (const DecodeError& error) {
            const py::object type = py::module_::import("nncodec.errors").attr("DecodeError");
            PyErr_SetString(type.ptr(), error.what());
        } catch (const ArgumentError& error) {
            PyErr_SetString(PyExc_ValueError, error.what());
        }
    });
}

}  // namespace
}  // namespace nncodec::python

PYBIND11_MODULE(_core, m, pybind11::mod_gil_not_used()) {
    using namespace nncodec::python;
    m.doc() =
        "The C++ engine of nncodec: kernels and chunk coders. Private; the public names are in nncodec.";
    m.attr("__version__") = NNCODEC_VERSION;
    register_errors();
    nncodec::active_isa();  // a bad NNCODEC_FORCE_ISA fails here, at import, and nowhere later
    register_base(m);
    register_entropy(m);
    register_quantize(m);
    register_transform(m);
    register_transform_klt(m);
    register_transform_dct(m);
    register_quantize_codebook(m);
    register_codecs_codebook(m);
    register_codecs_transform(m);
    register_rans_trellis(m);
    register_trellis(m);
    register_information(m);
    register_retrieval(m);
    register_feedback(m);
    register_ternary(m);
    register_codecs(m);
    register_codecs_ternary(m);
    register_container(m);
    register_lossless(m);
    register_codecs_uniform(m);
    register_codecs_universal(m);
    register_lattice(m);
    register_universal_coders(m);
    register_codecs_weightless(m);
    register_codecs_trellis(m);
    register_codecs_lowrank(m);
}
