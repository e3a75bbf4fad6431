// Trellis quantisation with error feedback: least error of a layer's output, not of its weights. Steps of the
// search: docs/format.md#error-feedback
//
// A matrix W (rows: outputs, columns: inputs) is replaced by Q at the cost |S (W - Q) L^T|^2, where L^T L ...
// L lower triangular with A = L^T L is the root of the inputs' second moment and S likewise that of the
// output side. Column by column, row by row, each weight's target is moved by what the errors so far imply,
//     target[i][j] = w[i][j] + sum_{k<j} input[j][k] (w - q)[i][k] + sum_{k<i} output[i][k] (target' -
//     q)[k][j]
// with target' the target without its last sum, input[j][k] = L[j][k] / L[j][j] and output[i][k] = S[i][k] /
// S[i][i]; then only (S[i][i] L[j][j] (target - q))^2 of its own rounding remains. Everything here is in
// steps: weights divided by a step per row and per column, and the triangles scaled accordingly.
//
// What surprises: the trellis runs down the columns, so that a weight's left neighbour lies `rows` samples
// back and is decided when it is needed, whatever path the search then takes. Rows of the same column may
// still be undecided: the last sum has what is expected of their errors (that they make up for what is above
// them), and what they turn out to be only for the rows that come after the decision. So a short delay pays
// where rows depend on each other; and with an output side a strand decides everything at the end of each
// column, before the next strand's rows.
//
// Sources: Frantar et al. 2022 (GPTQ); WaterSIC, arXiv 2603.04956 (a step per column, entropy coding); Chen,
// Shabanzadeh, Crnogorac, Hoefler and Alistarh, arXiv 2507.18553 (GPTQ is Babai's nearest plane).
#pragma once

#include <cstdint>
#include <span>

#include "quantize/trellis.hpp"

namespace nncodec::feedback {

// A strand is a run of whole rows with a trellis of its own, coded column after column, from state 0 on.
struct Layout {
    std::size_t rows = 0;
    std::size_t columns = 0;
    std::span<const std::size_t> strands;  // where each ends: rising row numbers, the last one `rows`
};

// Strictly lower triangles in row-major squares; empty: no feedback on that side.
struct Sides {
    std::span<const float>
        input;  // one or more of columns x columns: of as many groups of rows, one after the other
    std::span<const float> output;  // rows x rows
};

// The model that levels are chosen by: costs as for trellis::Quantiser, points as for trellis::dequantise.
struct Model {
    trellis::Options options;
    trellis::TableShape shape;
    std::span<const std::uint16_t> costs;
    trellis::Points points;
    std::span<const std::uint8_t> contexts;  // of each weight, or empty: all 0
};

// What comes out, row-major: levels, and the targets that they are next to.
struct Output {
    std::span<std::int16_t> levels;
    std::span<float> targets;
};

// weights: rows x columns in steps, row-major. `delay`: samples that stay undecided, at most; fewer where
// columns are short. Without an output side strands are coded in parallel. The same for any number of threads
// and on any machine. Returns |S (W - Q) L^T|^2 in steps. Throws ArgumentError on sizes that do not fit,
// contexts without tables and values that are not finite.
double quantise(const Model& model, const Layout& layout, std::span<const float> weights, const Sides& sides,
                std::size_t delay, std::size_t threads, const Output& out);

// How a whole matrix is coded where no model is known yet.
struct Plan {
    trellis::Options options;
    std::size_t delay = 64;
    unsigned passes = 2;  // each with the statistics of the one before
};

// Levels of `weights` (as above), row-major. Returns what quantise() does. Classes are those of
// scales::fit over rows and columns; first prices are the frequencies of the nearest points.
double choose_levels(const Plan& plan, const Layout& layout, std::span<const float> weights,
                     const Sides& sides, std::size_t threads, std::span<std::int16_t> levels);

}  // namespace nncodec::feedback
