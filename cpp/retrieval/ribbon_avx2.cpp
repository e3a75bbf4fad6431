#if defined(__x86_64__)

#include "retrieval/ribbon_impl.hpp"

namespace nncodec::ribbon {

constinit const Kernels kAvx2Kernels{&solve, &hits_by_bits};

}  // namespace nncodec::ribbon

#endif
