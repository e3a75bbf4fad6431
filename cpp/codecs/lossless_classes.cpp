#include <algorithm>

#include "codecs/byte_plane.hpp"
#include "codecs/code_length.hpp"
#include "codecs/lossless_encoder.hpp"

namespace nncodec::lossless {
namespace {

constexpr std::size_t kMostBins = 256;  // per layout, before the exact merge
constexpr std::size_t kMostLayouts = 8;
constexpr std::size_t kMostClasses = 24;
constexpr std::uint64_t kTableBits = 32;  // what a table costs, and each symbol in it
constexpr std::uint64_t kSymbolBits = 7;
constexpr std::uint64_t kLayoutBits = 512;
constexpr std::size_t kFilled = 8;  // symbols of a gap

using Bins = std::map<BinKey, Bin>;

// --- which raw-bit layouts ---

struct Unused {
    unsigned zeros;
    bool plus;
    std::uint64_t rows = 0;
    std::uint64_t numbers = 0;
};

bool fits(const planes::RawBits& layout, const Unused& rows) noexcept {
    return layout.zeros <= rows.zeros && (!layout.plus || rows.plus);
}

unsigned saved_bits(const planes::RawBits& layout) noexcept {
    return layout.zeros + (layout.plus ? 1 : 0);
}

std::size_t best_layout(std::span<const planes::RawBits> layouts, const Unused& rows) noexcept {
    std::size_t best = 0;  // the first fits all rows
    for (std::size_t l = 1; l < layouts.size(); ++l) {
        if (fits(layouts[l], rows) && saved_bits(layouts[l]) > saved_bits(layouts[best])) best = l;
    }
    return best;
}

// Starts from what all rows leave unused and adds, greedily, the layout that saves most, while one pays.
std::vector<planes::RawBits> choose_layouts(const Plan& plan, std::uint64_t any,
                                            std::span<const Unused> unused) {
    const unsigned sign_at = plan.format.mantissa_bits + plan.format.exponent_bits;
    planes::RawBits base;
    base.zeros = any == 0 ? plan.format.mantissa_bits
                          : std::min(static_cast<unsigned>(std::countr_zero(any)), plan.format.mantissa_bits);
    base.plus = any >> sign_at == 0;
    std::vector<planes::RawBits> layouts{base};
    if (plan.model.columns < kMinClassColumns) return layouts;
    while (layouts.size() < kMostLayouts) {
        std::uint64_t most = 0;
        planes::RawBits best;
        for (const Unused& candidate : unused) {
            const planes::RawBits layout{candidate.zeros, candidate.plus};
            std::uint64_t saved = 0;
            std::uint64_t rows = 0;
            for (const Unused& other : unused) {
                const unsigned now = saved_bits(layouts[best_layout(layouts, other)]);
                if (!fits(layout, other) || saved_bits(layout) <= now) continue;
                saved += other.numbers * (saved_bits(layout) - now);
                rows += other.rows;
            }
            const std::uint64_t costs = kLayoutBits + 4 * rows;
            if (saved > costs && saved - costs > most) {
                most = saved - costs;
                best = layout;
            }
        }
        if (most == 0) break;
        layouts.push_back(best);
    }
    return layouts;
}

// --- which classes ---

// Rows of long tensors are counted in part, so symbols between those that occur may occur too, most of all
// just below the others: a table must have them. The rest of a wide gap stays, for it would cost too much; a
// chunk that has such a symbol after all does without tables (encode_chunk).
void fill_gaps(std::span<std::uint64_t> counts) noexcept {
    std::size_t next = 0;  // after the last symbol that occurs; 0: there was none yet
    for (std::size_t s = 0; s < counts.size(); ++s) {
        if (counts[s] == 0) continue;
        if (next != 0 && s > next)
            std::fill(&counts[std::max(next, s - std::min(s, kFilled))], &counts[s], 1);
        next = s + 1;
    }
}

struct Candidate {
    std::size_t layout = 0;
    Bin bin;
    std::vector<BinKey> keys;
    std::uint64_t cost = 0;  // of its symbols and its table
};

std::uint64_t cost_of(const Bin& bin) noexcept {
    std::uint64_t cost = 0;
    for (std::size_t first = 0; first < bin.counts.size(); first += 256) {
        const auto counts = std::span(bin.counts).subspan(first, 256);
        const auto used = static_cast<std::uint64_t>(
            std::count_if(counts.begin(), counts.end(), [](std::uint64_t count) { return count != 0; }));
        cost += code_length<std::uint64_t>(counts) + ((kTableBits + kSymbolBits * used) << kLogBits);
    }
    return cost;
}

// rows * log2(rows): the row map costs f(all rows) - sum of f(rows of each class).
std::uint64_t row_term(std::uint64_t rows) noexcept {
    return rows == 0 ? 0 : rows * fixed_log2(rows);
}

// Bits that merging saves, with the row map's; negative if it costs.
std::int64_t gain(const Candidate& a, const Candidate& b) noexcept {
    Bin merged = a.bin;
    merged.add(b.bin);
    const std::uint64_t apart = a.cost + b.cost;
    const std::uint64_t map = row_term(merged.rows) - row_term(a.bin.rows) - row_term(b.bin.rows);
    return static_cast<std::int64_t>(apart + map) - static_cast<std::int64_t>(cost_of(merged));
}

void merge(std::vector<Candidate>& candidates, std::size_t i) {
    Candidate& a = candidates[i];
    a.bin.add(candidates[i + 1].bin);
    a.keys.insert(a.keys.end(), candidates[i + 1].keys.begin(), candidates[i + 1].keys.end());
    a.cost = cost_of(a.bin);
    candidates.erase(candidates.begin() + static_cast<std::ptrdiff_t>(i) + 1);
}

// Neighbours in scale are merged, best first, while that saves bits or there are too many.
void merge_classes(std::vector<Candidate>& candidates, std::size_t most) {
    constexpr std::int64_t kNever = INT64_MIN;
    const auto gain_at = [&](std::size_t i) {
        return candidates[i].layout == candidates[i + 1].layout ? gain(candidates[i], candidates[i + 1])
                                                                : kNever;
    };
    std::vector<std::int64_t> gains;
    for (std::size_t i = 0; i + 1 < candidates.size(); ++i) gains.push_back(gain_at(i));
    while (!gains.empty()) {
        const auto best = std::max_element(gains.begin(), gains.end());
        if (*best == kNever || (*best <= 0 && candidates.size() <= most)) break;
        const auto i = static_cast<std::size_t>(best - gains.begin());
        merge(candidates, i);
        gains.erase(best);
        if (i > 0) gains[i - 1] = gain_at(i - 1);
        if (i < gains.size()) gains[i] = gain_at(i);
    }
}

// Bins with few numbers join their neighbours first, so that the exact merge has few to look at.
std::vector<Candidate> make_candidates(const Plan& plan, const Bins& bins,
                                       const std::map<BinKey, std::size_t>& layout_of) {
    std::map<std::pair<std::size_t, std::uint16_t>, std::vector<BinKey>> ordered;
    for (const auto& [key, bin] : bins) ordered[{layout_of.at(key), key.level}].push_back(key);
    std::vector<Candidate> candidates;
    for (const auto& [place, keys] : ordered) {
        if (candidates.empty() || candidates.back().layout != place.first ||
            candidates.back().bin.numbers >= plan.numbers / kMostBins) {
            candidates.push_back({place.first, Bin(plan.model.column_classes), {}, 0});
        }
        Candidate& candidate = candidates.back();
        for (const BinKey& key : keys) candidate.bin.add(bins.at(key));
        candidate.keys.insert(candidate.keys.end(), keys.begin(), keys.end());
    }
    for (Candidate& candidate : candidates) candidate.cost = cost_of(candidate.bin);
    return candidates;
}

}  // namespace

void choose_model(Plan& plan, const PartStatistics& statistics) {
    Model& model = plan.model;
    const Bins& bins = statistics.bins;
    if (model.kind == Kind::floats) {
        std::map<std::pair<unsigned, bool>, Unused> unused;
        for (const auto& [key, bin] : bins) {
            auto& entry =
                unused.try_emplace({key.zeros, key.plus}, Unused{key.zeros, key.plus}).first->second;
            entry.rows += bin.rows;
            entry.numbers += bin.numbers;
        }
        std::vector<Unused> list;
        for (const auto& [key, entry] : unused) list.push_back(entry);
        model.raw = choose_layouts(plan, statistics.any, list);
    }
    std::map<BinKey, std::size_t> layout_of;
    for (const auto& [key, bin] : bins) {
        layout_of[key] = model.kind == Kind::floats ? best_layout(model.raw, Unused{key.zeros, key.plus}) : 0;
    }
    std::vector<Candidate> candidates = make_candidates(plan, bins, layout_of);
    if (model.columns < kMinClassColumns) {
        while (candidates.size() > 1) merge(candidates, 0);
    }
    merge_classes(candidates, std::min(kMostClasses, rans::kMaxTables / model.column_classes));

    std::map<BinKey, std::uint8_t> class_of;
    std::vector<std::vector<std::uint64_t>> counts;
    for (const Candidate& candidate : candidates) {
        const auto index = static_cast<std::uint8_t>(model.classes.size());
        model.classes.push_back(
            {static_cast<std::uint8_t>(candidate.layout), static_cast<std::uint8_t>(counts.size())});
        for (std::size_t c = 0; c < model.column_classes; ++c) {
            const auto first = candidate.bin.counts.begin() + static_cast<std::ptrdiff_t>(256 * c);
            counts.emplace_back(first, first + 256);
            if (plan.is_long()) fill_gaps(counts.back());
        }
        for (const BinKey& key : candidate.keys) class_of[key] = index;
    }
    model.tables = rans::fit_tables(counts);
    plan.encoder.emplace(model.tables);
    if (model.classes.size() == 1) return;
    for (const std::vector<BinKey>& rows : statistics.rows) {
        for (const BinKey& key : rows) model.row_class.push_back(class_of.at(key));
    }
}

Model planar_model(const Model& model) {
    Model planar = model;
    planar.tables.clear();
    planar.classes.clear();
    planar.column_classes = 1;
    planar.column_class.clear();
    std::array<std::uint8_t, kMaxClasses> renamed{};
    for (std::size_t c = 0; c < model.classes.size(); ++c) {
        // Classes are sorted by layout.
        if (planar.classes.empty() || planar.classes.back().raw != model.classes[c].raw) {
            planar.classes.push_back({model.classes[c].raw, 0});
        }
        renamed[c] = static_cast<std::uint8_t>(planar.classes.size() - 1);
    }
    for (std::uint8_t& c : planar.row_class) c = renamed[c];
    if (planar.classes.size() == 1) planar.row_class.clear();
    return planar;
}

}  // namespace nncodec::lossless
