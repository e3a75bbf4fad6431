#if defined(__x86_64__)

#include "transform/dct_impl.hpp"

namespace nncodec::dct {

constinit const Kernels kAvx512Kernels{&transform<true>, &transform<false>};

}  // namespace nncodec::dct

#endif
