#include "base/dispatch.hpp"

#include <array>
#include <atomic>
#include <cstdlib>
#include <string>

#include "base/error.hpp"

#if defined(__x86_64__)
#include <cpuid.h>
#endif

namespace nncodec {
namespace {

#if defined(__x86_64__)
// Asked by hand, since not every compiler knows the name. Where LZCNT is missing it runs as BSR, which counts
// from the other end.
bool has_lzcnt() noexcept {
    unsigned a = 0, b = 0, c = 0, d = 0;
    return __get_cpuid(0x80000001, &a, &b, &c, &d) != 0 && (c & (1U << 5)) != 0;
}
#endif

constexpr std::array kLevels{Isa::scalar, Isa::neon, Isa::avx2, Isa::avx512};

Isa parse(std::string_view name) {
    for (const Isa isa : kLevels) {
        if (isa_name(isa) != name) continue;
        if (!isa_supported(isa)) {
            throw ArgumentError("instruction set '" + std::string(name) +
                                "' is not available on this machine");
        }
        return isa;
    }
    throw ArgumentError("instruction set '" + std::string(name) +
                        "' is unknown: scalar, neon, avx2 or avx512");
}

Isa best() {
    if (const char* forced = std::getenv("NNCODEC_FORCE_ISA"); forced != nullptr && *forced != '\0') {
        return parse(forced);
    }
    Isa found = Isa::scalar;
    for (const Isa isa : kLevels) {
        if (isa_supported(isa)) found = isa;
    }
    return found;
}

std::atomic<Isa>& current() {
    static std::atomic<Isa> isa{best()};
    return isa;
}

}  // namespace

std::string_view isa_name(Isa isa) noexcept {
    switch (isa) {
        case Isa::neon:
            return "neon";
        case Isa::avx2:
            return "avx2";
        case Isa::avx512:
            return "avx512";
        case Isa::scalar:
            break;
    }
    return "scalar";
}

bool isa_supported(Isa isa) noexcept {
#if defined(__x86_64__)
    __builtin_cpu_init();
    switch (isa) {
        case Isa::scalar:
            return true;
        case Isa::neon:
            return false;
        case Isa::avx2:
            return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("bmi") &&
                   __builtin_cpu_supports("bmi2") && has_lzcnt();
        case Isa::avx512:  // Ice Lake, Zen 4 and later: the kernels rely on byte permutes and compressed
                           // stores
            return isa_supported(Isa::avx2) && __builtin_cpu_supports("avx512f") &&
                   __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
                   __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512vbmi") &&
                   __builtin_cpu_supports("avx512vbmi2") && __builtin_cpu_supports("avx512cd") &&
                   __builtin_cpu_supports("vpclmulqdq") && __builtin_cpu_supports("avx512vpopcntdq") &&
                   __builtin_cpu_supports("avx512vnni");
    }
    return false;
#elif defined(__aarch64__)
    return isa == Isa::scalar || isa == Isa::neon;  // NEON is part of the architecture's baseline
#else
    return isa == Isa::scalar;
#endif
}

Isa active_isa() {
    return current().load(std::memory_order_relaxed);
}

void force_isa(std::string_view name) {
    current().store(parse(name), std::memory_order_relaxed);
}

}  // namespace nncodec
