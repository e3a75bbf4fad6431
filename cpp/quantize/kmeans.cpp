#include "quantize/kmeans.hpp"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <limits>
#include <numeric>

#include "base/error.hpp"
#include "base/parallel.hpp"

namespace nncodec::kmeans {
namespace {

constexpr std::size_t kMostSplits = std::size_t{1} << 28;  // values x clusters whose splits are remembered

// The optimal partition of ascending, distinct values into intervals.
class Partition {
  public:
    Partition(std::span<const double> values, std::span<const double> weights) : n_(values.size()) {
        // About their middle the values are small, so that differences of sums keep their digits.
        const double middle = values[n_ / 2];
        weight_.resize(n_ + 1);
        sum_.resize(n_ + 1);
        square_.resize(n_ + 1);
        for (std::size_t i = 0; i < n_; ++i) {
            const double x = values[i] - middle;
            weight_[i + 1] = weight_[i] + weights[i];
            sum_[i + 1] = sum_[i] + weights[i] * x;
            square_[i + 1] = square_[i] + weights[i] * x * x;
        }
    }

    // Ends of the first k - 1 of k intervals, ascending. 1 <= k <= n.
    std::vector<std::size_t> ends(std::size_t k) {
        best_.resize(n_ + 1);
        next_.resize(n_ + 1);
        reduced_.resize(n_ + 1);
        for (std::size_t i = 1; i <= n_; ++i) best_[i] = cost(0, i);
        std::vector<std::vector<std::uint32_t>> splits;
        for (std::size_t layer = 2; layer <= k; ++layer) {
            // best_[i]: of the first i values in layer - 1 intervals.
            for (std::size_t j = layer - 1; j < n_; ++j) reduced_[j] = best_[j] - square_[j];
            auto& split = splits.emplace_back(n_ + 1);
            if (layer == k) {
                split[n_] = static_cast<std::uint32_t>(least(layer - 1, n_ - 1, n_).start);
            } else {
                fill(layer, split);
                best_.swap(next_);
            }
        }
        std::vector<std::size_t> ends(k - 1);
        std::size_t end = n_;
        for (std::size_t i = k - 1; i-- > 0;) ends[i] = end = splits[i][end];
        return ends;
    }

  private:
    double cost(std::size_t first, std::size_t end) const noexcept {
        const double sum = sum_[end] - sum_[first];
        return (square_[end] - square_[first]) - sum * sum / (weight_[end] - weight_[first]);
    }

    struct Best {
        std::size_t start;
        double cost;  // of the first `end` values, less square_[end]
    };

    // Where in [low, high] the last interval [start, end) is best begun, the lowest of several.
    Best least(std::size_t low, std::size_t high, std::size_t end) const noexcept {
        constexpr std::size_t kLanes = 4;
        typedef double Doubles __attribute__((vector_size(16)));
        typedef std::int64_t Longs __attribute__((vector_size(16)));
        const double sum = sum_[end];
        const double weight = weight_[end];
        double lowest = std::numeric_limits<double>::infinity();
        std::size_t found = low;
        std::size_t j = low;
        if (high - low >= 2 * kLanes) {
            Doubles least[2] = {{lowest, lowest}, {lowest, lowest}};
            Longs where[2] = {};
            Longs index[2];
            const auto start = static_cast<std::int64_t>(low);
            index[0] = Longs{start, start + 1};
            index[1] = Longs{start + 2, start + 3};
            for (; j + kLanes <= high + 1; j += kLanes) {
#pragma GCC unroll 2
                for (std::size_t v = 0; v < 2; ++v) {
                    Doubles s, w, r;
                    std::memcpy(&s, sum_.data() + j + 2 * v, sizeof s);
                    std::memcpy(&w, weight_.data() + j + 2 * v, sizeof w);
                    std::memcpy(&r, reduced_.data() + j + 2 * v, sizeof r);
                    const Doubles d = sum - s;
                    const Doubles value = r - d * d / (weight - w);
                    const Longs better = value < least[v];
                    least[v] = better ? value : least[v];
                    where[v] = better ? index[v] : where[v];
                    index[v] += static_cast<std::int64_t>(kLanes);
                }
            }
            for (std::size_t v = 0; v < 2; ++v) {
                for (std::size_t lane = 0; lane < 2; ++lane) {
                    const auto at = static_cast<std::size_t>(where[v][lane]);
                    if (least[v][lane] < lowest || (least[v][lane] == lowest && at < found)) {
                        lowest = least[v][lane];
                        found = at;
                    }
                }
            }
        }
        for (; j <= high; ++j) {
            const double d = sum - sum_[j];
            const double value = reduced_[j] - d * d / (weight - weight_[j]);
            if (value < lowest) {
                lowest = value;
                found = j;
            }
        }
        return {found, lowest};
    }

    // next_[i] and split[i] for all i >= layer, by divide and conquer over i.
    void fill(std::size_t layer, std::vector<std::uint32_t>& split) {
        struct Task {
            std::size_t first, last, low, high;
        };
        std::vector<Task> tasks{{layer, n_, layer - 1, n_ - 1}};
        while (!tasks.empty()) {
            const Task task = tasks.back();
            tasks.pop_back();
            if (task.last - task.first < kFew) {  // not worth dividing
                std::size_t low = task.low;
                for (std::size_t i = task.first; i <= task.last; ++i) low = settle(low, task.high, i, split);
                continue;
            }
            const std::size_t i = (task.first + task.last) / 2;
            const std::size_t j = settle(task.low, task.high, i, split);
            if (i < task.last) tasks.push_back({i + 1, task.last, j, task.high});
            if (i > task.first) tasks.push_back({task.first, i - 1, task.low, j});
        }
    }

    std::size_t settle(std::size_t low, std::size_t high, std::size_t i, std::vector<std::uint32_t>& split) {
        const Best best = least(low, std::min(high, i - 1), i);
        split[i] = static_cast<std::uint32_t>(best.start);
        next_[i] = best.cost + square_[i];
        return best.start;
    }

    static constexpr std::size_t kFew = 8;

    std::size_t n_;
    std::vector<double> weight_, sum_, square_;  // sums over the first i values
    std::vector<double> best_, next_;
    std::vector<double> reduced_;  // best_ less square_
};

void check(std::span<const double> values, std::span<const double> weights) {
    if (!weights.empty() && weights.size() != values.size())
        throw ArgumentError("k-means needs as many weights as values");
    for (std::size_t i = 0; i < values.size(); ++i) {
        if (!std::isfinite(values[i])) throw ArgumentError("k-means needs finite values");
        if (i > 0 && values[i] < values[i - 1])
            throw ArgumentError("k-means needs values in ascending order");
        if (!weights.empty() && !(weights[i] >= 0 && std::isfinite(weights[i])))
            throw ArgumentError("weights of k-means must be finite and at least 0");
    }
}

}  // namespace

Codebook optimal(std::span<const double> values, std::span<const double> weights, std::size_t clusters) {
    if (clusters < 1 || clusters > kMaxClusters) throw ArgumentError("clusters must be 1 to 65536");
    check(values, weights);
    std::vector<double> distinct;
    std::vector<double> counts;
    for (std::size_t i = 0; i < values.size(); ++i) {
        const double weight = weights.empty() ? 1.0 : weights[i];
        if (weight == 0) continue;
        if (!distinct.empty() && distinct.back() == values[i]) {
            counts.back() += weight;
        } else {
            distinct.push_back(values[i]);
            counts.push_back(weight);
        }
    }
    Codebook book;
    if (distinct.size() <= clusters) {
        book.centroids = std::move(distinct);
        return book;
    }
    if (distinct.size() > kMostSplits / clusters)
        throw ArgumentError("values times clusters must be at most 2^28: make a histogram first");
    std::vector<std::size_t> ends = Partition(distinct, counts).ends(clusters);
    ends.push_back(distinct.size());
    std::size_t first = 0;
    for (const std::size_t end : ends) {
        const double about = distinct[first];
        double weight = 0;
        double sum = 0;
        for (std::size_t i = first; i < end; ++i) {
            weight += counts[i];
            sum += counts[i] * (distinct[i] - about);
        }
        const double mean = about + sum / weight;
        for (std::size_t i = first; i < end; ++i)
            book.objective += counts[i] * (distinct[i] - mean) * (distinct[i] - mean);
        if (book.centroids.empty() || mean > book.centroids.back()) book.centroids.push_back(mean);
        first = end;
    }
    return book;
}

void assign(std::span<const float> values, std::span<const float> centroids, std::span<std::uint16_t> out,
            std::size_t threads) {
    if (centroids.empty() || centroids.size() > kMaxClusters || out.size() != values.size())
        throw ArgumentError("assignment needs 1 to 65536 centroids and a place per value");
    // A value is above the midpoint of two floats if it is above the greatest float that is not above it.
    const std::size_t padded = std::bit_ceil(centroids.size());
    std::vector<float> thresholds(padded, std::numeric_limits<float>::infinity());
    for (std::size_t k = 0; k + 1 < centroids.size(); ++k) {
        if (!(centroids[k] <= centroids[k + 1])) throw ArgumentError("centroids must ascend");
        const double middle = (static_cast<double>(centroids[k]) + static_cast<double>(centroids[k + 1])) / 2;
        auto nearest = static_cast<float>(middle);
        if (static_cast<double>(nearest) > middle)
            nearest = std::nextafter(nearest, -std::numeric_limits<float>::infinity());
        thresholds[k] = nearest;
    }
    constexpr std::size_t kPiece = std::size_t{1} << 16;
    parallel_for((values.size() + kPiece - 1) / kPiece, threads, [&](std::size_t piece) {
        const std::size_t end = std::min(values.size(), (piece + 1) * kPiece);
        for (std::size_t i = piece * kPiece; i < end; ++i) {
            const float x = values[i];
            std::size_t at = 0;
            for (std::size_t half = padded / 2; half > 0; half /= 2)
                at += thresholds[at + half - 1] < x ? half : 0;
            out[i] = static_cast<std::uint16_t>(at);
        }
    });
}

namespace {

// What one piece of the vectors adds to the next centroids.
struct Sums {
    std::vector<double> weight;  // per centroid
    std::vector<double> sum;     // per centroid and dimension
    double objective = 0;
};

template <std::size_t kDimension>
std::size_t nearest(const float* x, std::span<const float> centroids, std::size_t dimension,
                    double& distance) noexcept {
    const std::size_t d = kDimension == 0 ? dimension : kDimension;
    std::size_t best = 0;
    float least = std::numeric_limits<float>::infinity();
    const std::size_t count = centroids.size() / d;
    for (std::size_t k = 0; k < count; ++k) {
        float square = 0;
        for (std::size_t i = 0; i < d; ++i) {
            const float delta = x[i] - centroids[k * d + i];
            square += delta * delta;
        }
        if (square < least) {
            least = square;
            best = k;
        }
    }
    distance = static_cast<double>(least);
    return best;
}

}  // namespace

std::vector<double> lloyd(std::span<const float> vectors, std::size_t dimension,
                          std::span<const float> weights, std::span<float> centroids, std::size_t steps,
                          std::span<std::uint16_t> out, std::size_t threads) {
    if (dimension < 1 || dimension > 8 || vectors.size() % dimension != 0 || centroids.empty() ||
        centroids.size() % dimension != 0 || centroids.size() / dimension > kMaxClusters)
        throw ArgumentError("vectors and centroids must be whole, of 1 to 8 numbers");
    const std::size_t n = vectors.size() / dimension;
    const std::size_t k = centroids.size() / dimension;
    if (out.size() != n || (!weights.empty() && weights.size() != n))
        throw ArgumentError("lloyd needs a place, and a weight if there are any, per vector");
    constexpr std::size_t kPiece = std::size_t{1} << 14;
    const std::size_t pieces = (n + kPiece - 1) / kPiece;
    std::vector<double> objectives;
    for (std::size_t step = 0;; ++step) {
        std::vector<Sums> sums(pieces);
        parallel_for(pieces, threads, [&](std::size_t piece) {
            Sums& mine = sums[piece];
            mine.weight.resize(k);
            mine.sum.resize(k * dimension);
            const std::size_t end = std::min(n, (piece + 1) * kPiece);
            for (std::size_t i = piece * kPiece; i < end; ++i) {
                const float* x = vectors.data() + i * dimension;
                double distance = 0;
                const std::size_t best = dimension == 2   ? nearest<2>(x, centroids, 2, distance)
                                         : dimension == 4 ? nearest<4>(x, centroids, 4, distance)
                                                          : nearest<0>(x, centroids, dimension, distance);
                out[i] = static_cast<std::uint16_t>(best);
                const double w = weights.empty() ? 1.0 : static_cast<double>(weights[i]);
                mine.weight[best] += w;
                for (std::size_t d = 0; d < dimension; ++d)
                    mine.sum[best * dimension + d] += w * static_cast<double>(x[d]);
                mine.objective += w * distance;
            }
        });
        Sums all{std::vector<double>(k), std::vector<double>(k * dimension), 0};
        for (const Sums& s : sums) {  // in order: sums of doubles are not commutative
            for (std::size_t i = 0; i < k; ++i) all.weight[i] += s.weight[i];
            for (std::size_t i = 0; i < k * dimension; ++i) all.sum[i] += s.sum[i];
            all.objective += s.objective;
        }
        objectives.push_back(all.objective);
        if (step == steps) return objectives;
        bool moved = false;
        for (std::size_t i = 0; i < k * dimension; ++i) {
            const double w = all.weight[i / dimension];
            if (!(w > 0)) continue;
            const auto mean = static_cast<float>(all.sum[i] / w);
            moved = moved || mean != centroids[i];
            centroids[i] = mean;
        }
        if (!moved) return objectives;
    }
}

}  // namespace nncodec::kmeans
