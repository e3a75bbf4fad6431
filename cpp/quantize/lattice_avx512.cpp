#if defined(__x86_64__)

#include "quantize/lattice_impl.hpp"

namespace nncodec::lattice {

// constinit: nothing of this file may run on a machine without its instructions, not even at start-up.
constinit const Kernels kAvx512Kernels = make_kernels();

}  // namespace nncodec::lattice

#endif
