#if defined(__x86_64__)

#include "transform/float_planes_impl.hpp"

namespace nncodec::planes {

const Kernels kAvx2Kernels = make_kernels();

}  // namespace nncodec::planes

#endif
