#if defined(__x86_64__)

#include "transform/klt_impl.hpp"

namespace nncodec::klt {

constinit const Kernels kAvx2Kernels{&multiply, &accumulate, &reflect};

}  // namespace nncodec::klt

#endif
