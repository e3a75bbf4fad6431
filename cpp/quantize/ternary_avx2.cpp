#if defined(__x86_64__)

#include "quantize/ternary_impl.hpp"

namespace nncodec::ternary {

// constinit: nothing of this file may run on a machine without its instructions, not even at start-up.
constinit const Kernels kAvx2Kernels = make_kernels();

}  // namespace nncodec::ternary

#endif
