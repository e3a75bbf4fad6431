// Which instruction set the kernels use. Chosen once per process, asked once per buffer, never per symbol.
//
// Every level gives the same bytes and the same floats; scalar is the truth. NNCODEC_FORCE_ISA forces a
// level.
#pragma once

#include <string_view>

namespace nncodec {

enum class Isa { scalar, neon, avx2, avx512 };

std::string_view isa_name(Isa isa) noexcept;
bool isa_supported(Isa isa) noexcept;

// The best level of this machine, or the one that NNCODEC_FORCE_ISA names.
// Throws ArgumentError on the first call if the variable names an unknown level or one this machine lacks.
Isa active_isa();

// For tests and benchmarks; throws ArgumentError as above.
void force_isa(std::string_view name);

}  // namespace nncodec
