#include "base/crc32c.hpp"
#include "base/dispatch.hpp"
#include "base/parallel.hpp"
#include "python/convert.hpp"

namespace nncodec::python {

void register_base(py::module_& m) {
#if defined(__clang__)
    m.attr("compiler") = "clang " __clang_version__;
#else
    m.attr("compiler") = "gcc " __VERSION__;
#endif

    m.def(
        "crc32c",
        [](const py::object& data, std::uint32_t seed) {
            const BufferView view(data, "data");
            const py::gil_scoped_release nogil;
            return crc32c(view.bytes(), seed);
        },
        "data"_a, "seed"_a = 0, "CRC-32C of a buffer; `seed` is the CRC of what came before it.");

    m.def(
        "isa", [] { return std::string(isa_name(active_isa())); },
        "The instruction set that the kernels use.");
    m.def(
        "supported_isas",
        [] {
            py::list names;
            for (const Isa isa : {Isa::scalar, Isa::neon, Isa::avx2, Isa::avx512}) {
                if (isa_supported(isa)) names.append(std::string(isa_name(isa)));
            }
            return names;
        },
        "The instruction sets of this machine that the kernels know, slowest first.");
    m.def("force_isa", &force_isa, "name"_a, "Use this instruction set from now on (tests and benchmarks).");
    m.def("hardware_threads", &hardware_threads, "Cores that this process may use.");
}

}  // namespace nncodec::python
