#if defined(__x86_64__)

#include "information/kernel_sums_impl.hpp"

namespace nncodec::information {

constinit const Kernels kAvx2Kernels{&class_sums};

}  // namespace nncodec::information

#endif
