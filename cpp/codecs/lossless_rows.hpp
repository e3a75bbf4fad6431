// Walks the rows of a chunk in runs of one raw-bit layout.
#pragma once

#include <algorithm>
#include <span>

#include "codecs/lossless_model.hpp"

namespace nncodec::lossless {

inline std::size_t rows_of(const Model& model, std::size_t numbers) noexcept {
    return (numbers + model.columns - 1) / model.columns;
}

// Calls run(layout, first, count) for each run of numbers [first, first + count) of the chunk that starts at
// row `first_row` and holds `numbers`; a run is at most `longest` numbers and never empty.
template <typename Run>
void for_each_run(const Model& model, std::size_t first_row, std::size_t numbers, std::size_t longest,
                  Run&& run) {
    const auto emit = [&](std::size_t layout, std::size_t first, std::size_t end) {
        for (; first < end; first += longest) run(layout, first, std::min(longest, end - first));
    };
    if (model.row_class.empty() || model.raw.size() <= 1) {
        emit(model.classes[0].raw, 0, numbers);
        return;
    }
    const std::size_t rows = rows_of(model, numbers);
    std::size_t begin = 0;
    for (std::size_t row = 1; row <= rows; ++row) {
        const std::size_t layout = model.classes[model.row_class[first_row + row - 1]].raw;
        if (row < rows && model.classes[model.row_class[first_row + row]].raw == layout) continue;
        const std::size_t end = std::min(row * model.columns, numbers);
        emit(layout, begin, end);
        begin = end;
    }
}

}  // namespace nncodec::lossless
