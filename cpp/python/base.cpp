#include "base/bits.hpp"
#include "base/crc32c.hpp"
#include "base/dispatch.hpp"
#include "base/parallel.hpp"
#include "python/convert.hpp"

namespace nncodec::python {
namespace {

void check_bits(unsigned bits, unsigned code_bytes) {
    if (code_bytes != 2 && code_bytes != 4) throw py::value_error("code_bytes must be 2 or 4");
    if (bits < 1 || bits > 8 * code_bytes) {
        throw py::value_error("bits must be from 1 to " + std::to_string(8 * code_bytes) + ", got " +
                              std::to_string(bits));
    }
}

template <typename Code>
py::bytes pack(const BufferView& view, unsigned bits) {
    const auto codes = view.as<Code>("codes");
    if (!fit_in(codes, bits)) throw py::value_error("codes must be below 2^" + std::to_string(bits));
    Bytes out(packed_size(codes.size(), bits));
    {
        const py::gil_scoped_release nogil;
        bitpack(codes, bits, out);
    }
    return to_bytes(out);
}

// Runs handlers of signals, such as the one that raises KeyboardInterrupt; only the main thread has any.
void check_signals() {
    const py::gil_scoped_acquire gil;
    if (PyErr_CheckSignals() != 0) throw py::error_already_set();
}

}  // namespace

void register_base(py::module_& m) {
    set_interrupt_check(&check_signals);
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
        "bitpack",
        [](const py::object& codes, unsigned bits, unsigned code_bytes) {
            check_bits(bits, code_bytes);
            const BufferView view(codes, "codes");
            return code_bytes == 2 ? pack<std::uint16_t>(view, bits) : pack<std::uint32_t>(view, bits);
        },
        "codes"_a, "bits"_a, "code_bytes"_a = 2,
        "Pack uint16 (or uint32: code_bytes=4) codes of `bits` bits.");
    m.def(
        "bitunpack",
        [](const py::object& packed, unsigned bits, const py::object& out, unsigned code_bytes) {
            check_bits(bits, code_bytes);
            const BufferView from(packed, "packed");
            const BufferView to(out, "out", true);
            Status status = Status::ok;
            if (code_bytes == 2) {
                const auto codes = to.writable_as<std::uint16_t>("out");
                const py::gil_scoped_release nogil;
                status = bitunpack(from.bytes(), bits, codes);
            } else {
                const auto codes = to.writable_as<std::uint32_t>("out");
                const py::gil_scoped_release nogil;
                status = bitunpack(from.bytes(), bits, codes);
            }
            check(status, "packed codes");
        },
        "packed"_a, "bits"_a, "out"_a, "code_bytes"_a = 2,
        "Fill `out` (uint16 or uint32) with unpacked codes.");

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
