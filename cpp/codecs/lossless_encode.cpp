#include <algorithm>
#include <mutex>

#include "base/parallel.hpp"
#include "codecs/lossless_encoder.hpp"

namespace nncodec::lossless {
namespace {

constexpr std::size_t kMostPlanar = std::size_t{1}
                                    << 14;  // numbers: up to here, doing without tables is tried

struct Task {
    std::size_t part;
    std::size_t chunk;
};

std::size_t total_size(const Bytes& model, std::span<const Bytes> chunks) {
    std::size_t size = model.size();
    for (const Bytes& chunk : chunks) size += chunk.size();
    return size;
}

Bytes serialise(const Plan& plan, const Model& model) {
    ByteWriter out;
    write_model(model, plan.format, plan.is_long() ? PlaneEffort::fast : PlaneEffort::dense, out);
    return out.take();
}

}  // namespace

Encoding::Encoding(const Part& part) : plan_(std::make_unique<Plan>(survey(part))) {
    choose_columns(*plan_);
}
Encoding::Encoding(Encoding&&) noexcept = default;
Encoding& Encoding::operator=(Encoding&&) noexcept = default;
Encoding::~Encoding() = default;

std::size_t Encoding::chunk_elements() const noexcept {
    return plan_->chunk_numbers / plan_->format.numbers;
}
std::size_t Encoding::chunks() const noexcept {
    return plan_->chunks();
}

std::vector<Bytes> Encoding::encode(std::size_t first, std::size_t end, std::size_t threads) {
    if (first > end || end > chunks()) throw ArgumentError("these chunks do not exist");
    std::vector<Bytes> result(end - first);
    if (!ready_.empty()) {
        std::move(ready_.begin() + static_cast<std::ptrdiff_t>(first),
                  ready_.begin() + static_cast<std::ptrdiff_t>(end), result.begin());
        return result;
    }
    parallel_for(result.size(), threads,
                 [&](std::size_t i) { result[i] = encode_chunk(*plan_, plan_->model, first + i); });
    return result;
}

// Small parts: the same without tables, if that is smaller. Any part: raw, if nothing is smaller.
void Encoding::settle() {
    const Plan& plan = *plan_;
    if (plan.model.has_symbols() && plan.numbers <= kMostPlanar && ready_.size() == 1) {
        const Model planar = planar_model(plan.model);
        Bytes model = serialise(plan, planar);
        Bytes chunk = encode_chunk(plan, planar, 0);
        if (model.size() + chunk.size() < total_size(model_, ready_)) {
            model_ = std::move(model);
            version_ = 1;
            ready_[0] = std::move(chunk);
        }
    }
    const bool coded = std::any_of(ready_.begin(), ready_.end(), [](const Bytes& chunk) {
        return chunk[0] >= static_cast<std::uint8_t>(ChunkMode::coded);
    });
    if (!coded) {
        model_.clear();
        version_ = 1;
    }
    // A chunk that needs no model is at most one byte longer than its elements.
    if (total_size(model_, ready_) <= plan.data.size() + ready_.size()) return;
    model_.clear();
    version_ = 1;
    for (std::size_t i = 0; i < ready_.size(); ++i) ready_[i] = encode_chunk(plan, Model{}, i);
}

std::vector<Encoding> encode(std::span<const Part> parts, std::size_t threads) {
    std::vector<Encoding> encodings;
    {
        std::vector<std::optional<Encoding>> made(parts.size());
        parallel_for(parts.size(), threads, [&](std::size_t i) { made[i].emplace(parts[i]); });
        encodings.reserve(parts.size());
        for (auto& encoding : made) encodings.push_back(std::move(*encoding));
    }

    std::vector<Task> tasks;
    std::vector<PartStatistics> statistics(parts.size());
    for (std::size_t i = 0; i < parts.size(); ++i) {
        for (std::size_t c = 0; c < encodings[i].chunks(); ++c) tasks.push_back({i, c});
        statistics[i].rows.resize(encodings[i].chunks());
    }
    // What takes longest after a part's last chunk comes early: the models of large parts, and small parts,
    // which are tried in two ways.
    const auto by_size = [&](bool largest_first) {
        std::stable_sort(tasks.begin(), tasks.end(), [&](const Task& a, const Task& b) {
            const std::size_t of_a = parts[a.part].data.size();
            const std::size_t of_b = parts[b.part].data.size();
            return largest_first ? of_a > of_b : of_a < of_b;
        });
    };
    std::mutex adding;
    std::vector<std::size_t> done(parts.size());
    const auto choose = [&](std::size_t part) {
        Encoding& encoding = encodings[part];
        Plan& plan = *encoding.plan_;
        if (plan.model.has_symbols()) choose_model(plan, statistics[part]);
        statistics[part] = {};
        encoding.model_ = serialise(plan, plan.model);
        encoding.version_ = plan.model.column_class.empty() ? 1 : kColumnsVersion;
        if (plan.data.size() <= kMostAhead) encoding.ready_.resize(plan.chunks());
    };
    by_size(true);
    parallel_for(tasks.size(), threads, [&](std::size_t t) {
        const auto [part, chunk] = tasks[t];
        const Plan& plan = *encodings[part].plan_;
        ChunkStatistics of_chunk;
        if (plan.model.has_symbols()) of_chunk = gather(plan, plan.chunk(chunk));
        {
            const std::lock_guard lock(adding);
            if (plan.model.has_symbols()) statistics[part].add(chunk, std::move(of_chunk));
            if (++done[part] < encodings[part].chunks()) return;
            done[part] = 0;
        }
        choose(part);
    });
    by_size(false);
    parallel_for(tasks.size(), threads, [&](std::size_t t) {
        const auto [part, chunk] = tasks[t];
        Encoding& encoding = encodings[part];
        if (encoding.ready_.empty()) return;
        encoding.ready_[chunk] = encode_chunk(*encoding.plan_, encoding.plan_->model, chunk);
        {
            const std::lock_guard lock(adding);
            if (++done[part] < encoding.chunks()) return;
        }
        encoding.settle();
    });
    return encodings;
}

}  // namespace nncodec::lossless
