#include "information/kernel_sums.hpp"

#include <algorithm>
#include <vector>

#include "base/dispatch.hpp"
#include "base/parallel.hpp"
#include "information/kernel_sums_impl.hpp"

namespace nncodec {
namespace information {

constinit const Kernels kScalarKernels{&class_sums};

namespace {

const Kernels& kernels() {
    switch (active_isa()) {
#if defined(__x86_64__)
        case Isa::avx512:
            return kAvx512Kernels;
        case Isa::avx2:
            return kAvx2Kernels;
#endif
        default:
            return kScalarKernels;
    }
}

// The points of one class, cut into tiles; missing points of the last tile lie beyond every cutoff.
struct Class {
    std::size_t begin = 0, end = 0;  // rows
    std::size_t first_tile = 0, tiles = 0;
};

constexpr float kNowhere = 1e18F;

}  // namespace
}  // namespace information

void kernel_sums(std::span<const float> points, std::size_t d, std::span<const std::uint32_t> class_ends,
                 std::span<double> sums, std::size_t threads) {
    using namespace information;
    const std::size_t padded = (d + kStride - 1) / kStride * kStride;
    std::vector<Class> classes;
    std::size_t tiles = 0;
    for (std::size_t begin = 0; const std::uint32_t end : class_ends) {
        const std::size_t count = (end - begin + kTile - 1) / kTile;
        classes.push_back({begin, end, tiles, count});
        tiles += count;
        begin = end;
    }
    std::vector<float> tiled(tiles * padded * kTile, 0.0F);
    for (const Class& of : classes) {
        for (std::size_t i = 0; i < of.tiles * kTile; ++i) {
            float* to = tiled.data() + (of.first_tile + i / kTile) * padded * kTile + i % kTile;
            if (of.begin + i >= of.end) {
                *to = kNowhere;
                continue;
            }
            const float* from = points.data() + (of.begin + i) * d;
            for (std::size_t k = 0; k < d; ++k) to[k * kTile] = from[k];
        }
    }

    const Kernels& use = kernels();
    constexpr std::size_t kTask = 32;  // points per task: enough to hide the cost of handing it out
    const std::size_t n = class_ends.empty() ? 0 : class_ends.back();
    parallel_for((n + kTask - 1) / kTask, threads, [&](std::size_t task) {
        std::vector<float> query(kQueries * padded, 0.0F);
        const std::size_t end = std::min(n, (task + 1) * kTask);
        for (std::size_t at = task * kTask; at < end; at += kQueries) {
            const std::size_t rows = std::min(kQueries, end - at);
            for (std::size_t q = 0; q < rows; ++q)
                std::copy_n(points.data() + (at + q) * d, d, query.data() + q * padded);
            double* out = sums.data() + at * kKernelSums;
            std::fill_n(out, rows * kKernelSums, 0.0);
            for (const Class& of : classes) {
                double near[kQueries], wide[kQueries];
                use.class_sums(tiled.data() + of.first_tile * padded * kTile, of.tiles, query.data(), padded,
                               near, wide);
                for (std::size_t q = 0; q < rows; ++q) {
                    double* sum = out + q * kKernelSums;
                    const bool own = at + q >= of.begin && at + q < of.end;
                    sum[0] += near[q];
                    sum[2] += wide[q];
                    if (own) {
                        sum[1] = near[q];
                        sum[3] = wide[q];
                    }
                }
            }
        }
    });
}

}  // namespace nncodec
