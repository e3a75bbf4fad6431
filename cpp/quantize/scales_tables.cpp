#include "quantize/scales_tables.hpp"

#include <algorithm>
#include <numeric>
#include <string>

#include "quantize/scales.hpp"

namespace nncodec::scales {
namespace {

using Counts = std::vector<std::uint64_t>;

// What a table costs the stream: near six bits a symbol, and its share of offsets and of lengths.
std::uint64_t table_bits(std::span<const std::uint64_t> counts) noexcept {
    const auto used =
        counts.end() - std::find_if(counts.rbegin(), counts.rend(), [](auto c) { return c != 0; }).base();
    return static_cast<std::uint64_t>(16 + 6 * (static_cast<std::ptrdiff_t>(counts.size()) - used)) << 16;
}

std::uint64_t total_bits(std::span<const std::uint64_t> counts) noexcept {
    return entropy_bits(counts) + table_bits(counts);
}

Counts sum(std::span<const std::uint64_t> a, std::span<const std::uint64_t> b) {
    Counts both(a.begin(), a.end());
    for (std::size_t i = 0; i < both.size(); ++i) both[i] += b[i];
    return both;
}

bool is_zero(std::span<const std::uint64_t> counts) noexcept {
    return std::all_of(counts.begin(), counts.end(), [](std::uint64_t c) { return c == 0; });
}

struct Group {
    std::size_t contexts = 1;
    Counts counts;
    std::uint64_t bits = 0;
    std::int64_t gain = 0;  // of merging with the next group
};

void set_gain(std::vector<Group>& groups, std::size_t i) {
    if (i + 1 >= groups.size()) return;
    const std::uint64_t apart = groups[i].bits + groups[i + 1].bits;
    groups[i].gain = static_cast<std::int64_t>(apart) -
                     static_cast<std::int64_t>(total_bits(sum(groups[i].counts, groups[i + 1].counts)));
}

// Without trailing zeros; all zeros become one symbol that always occurs.
Counts trimmed(Counts counts) {
    std::size_t size = counts.size();
    while (size > 1 && counts[size - 1] == 0) --size;
    counts.resize(size);
    if (is_zero(counts)) counts[0] = 1;
    return counts;
}

}  // namespace

std::vector<rans::Frequencies> ClassTables::per_context() const {
    std::vector<rans::Frequencies> all;
    all.reserve(table_of.size());
    for (const std::uint8_t table : table_of) all.push_back(tables[table]);
    return all;
}

std::uint64_t entropy_bits(std::span<const std::uint64_t> counts) noexcept {
    std::uint64_t total = 0;
    std::uint64_t weighted = 0;
    for (const std::uint64_t count : counts) {
        if (count == 0) continue;
        total += count;
        weighted += count * static_cast<std::uint64_t>(fixed_log2(static_cast<double>(count)));
    }
    return total == 0 ? 0
                      : total * static_cast<std::uint64_t>(fixed_log2(static_cast<double>(total))) - weighted;
}

ClassTables group_contexts(std::span<const std::uint64_t> counts, std::size_t most) {
    std::vector<Group> groups;
    for (std::size_t at = 0; at < counts.size(); at += kSymbols) {
        const auto of = counts.subspan(at, kSymbols);
        if (!groups.empty() && is_zero(of)) {
            ++groups.back().contexts;
        } else if (!groups.empty() && is_zero(groups.back().counts)) {
            ++groups.back().contexts;
            groups.back().counts.assign(of.begin(), of.end());
        } else {
            groups.push_back({1, Counts(of.begin(), of.end()), 0, 0});
        }
    }
    for (Group& group : groups) group.bits = total_bits(group.counts);
    for (std::size_t i = 0; i < groups.size(); ++i) set_gain(groups, i);
    while (groups.size() > 1) {
        const auto best = std::max_element(groups.begin(), groups.end() - 1,
                                           [](const Group& a, const Group& b) { return a.gain < b.gain; });
        if (best->gain < 0 && groups.size() <= most) break;
        const auto i = static_cast<std::size_t>(best - groups.begin());
        groups[i].counts = sum(groups[i].counts, groups[i + 1].counts);
        groups[i].contexts += groups[i + 1].contexts;
        groups[i].bits = total_bits(groups[i].counts);
        groups.erase(groups.begin() + static_cast<std::ptrdiff_t>(i) + 1);
        set_gain(groups, i);
        if (i > 0) set_gain(groups, i - 1);
    }
    ClassTables result;
    std::vector<Counts> of_table;
    for (const Group& group : groups) {
        result.table_of.insert(result.table_of.end(), group.contexts,
                               static_cast<std::uint8_t>(of_table.size()));
        of_table.push_back(trimmed(group.counts));
    }
    result.tables = rans::fit_tables(of_table);
    return result;
}

double cost_in_bits(std::span<const std::uint64_t> counts, const ClassTables& tables) noexcept {
    double bits = 0;
    for (std::size_t context = 0; context < tables.table_of.size(); ++context) {
        const auto of = counts.subspan(context * kSymbols, kSymbols);
        bits += static_cast<double>(rans::cost_in_256ths(of, tables.tables[tables.table_of[context]])) / 256;
    }
    return bits;
}

void write_class_tables(ByteWriter& out, const ClassTables& tables) {
    if (tables.table_of.size() > 1) {
        out.varint(tables.tables.size());
        for (std::size_t table = 0; table + 1 < tables.tables.size(); ++table) {
            out.varint(static_cast<std::uint64_t>(std::count(tables.table_of.begin(), tables.table_of.end(),
                                                             static_cast<std::uint8_t>(table))));
        }
    }
    rans::write_tables(out, tables.tables);
}

ClassTables read_class_tables(ByteReader& in, std::size_t contexts) {
    ClassTables result;
    const std::size_t n =
        contexts > 1 ? static_cast<std::size_t>(in.varint("number of tables", contexts)) : 1;
    if (n == 0) in.fail("number of tables", "is 0");
    std::size_t left = contexts;
    for (std::size_t table = 0; table < n; ++table) {
        const std::size_t after = n - 1 - table;  // each of them needs a context
        const std::size_t run =
            after == 0 ? left : static_cast<std::size_t>(in.varint("contexts", left - after));
        if (run == 0) in.fail("contexts", "of table " + std::to_string(table) + " are 0");
        result.table_of.insert(result.table_of.end(), run, static_cast<std::uint8_t>(table));
        left -= run;
    }
    result.tables = rans::read_tables(in, n);
    if (result.tables.size() != n) in.fail("tables", "are " + std::to_string(result.tables.size()));
    return result;
}

}  // namespace nncodec::scales
