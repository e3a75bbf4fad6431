#include "quantize/feedback.hpp"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <numeric>
#include <string>
#include <vector>

#include "base/error.hpp"
#include "base/parallel.hpp"
#include "quantize/strand.hpp"

namespace nncodec::feedback {
namespace {

constexpr std::size_t kRowBlock = trellis::kLaneGroup;
constexpr std::size_t kColumnBlock = 32;  // columns whose errors are spread to later ones together

// to[i] += factor * from[i]
void add_scaled(float factor, const float* from, std::size_t n, float* to) noexcept {
    for (std::size_t i = 0; i < n; ++i) to[i] += factor * from[i];
}

// A strand's place in its scan.
struct Place {
    std::size_t first_row;
    std::size_t rows;
    std::size_t block;  // rows at a time
    std::size_t keep;   // undecided samples
    std::size_t pushed = 0;
    std::size_t decided = 0;
    trellis::Strand strand;
};

// Strands that are coded together, column by column. Matrices are column-major: a column's rows are
// contiguous.
class Panel {
  public:
    Panel(const Model& model, const trellis::Plan& plan, const Layout& layout, std::span<const float> weights,
          const Sides& sides, std::size_t delay, std::size_t first_strand, std::size_t end_strand,
          const Output& out);
    double run();  // returns the error

  private:
    void measure();
    void feed_back(std::size_t column, std::size_t row, std::size_t n);
    void spread(const float* factors, std::size_t first, std::size_t end, std::size_t row, std::size_t n,
                std::size_t to) noexcept;
    void push(Place& place, std::size_t column, std::size_t row, std::size_t n);
    void move_below(float error, std::size_t row, std::size_t first) noexcept;
    void settle(Place& place, std::size_t keep);
    float value_of(const trellis::Decision& decision, std::size_t row, std::size_t column) const noexcept;
    std::size_t context(std::size_t row, std::size_t column) const noexcept {
        return model_.contexts.empty() ? 0 : model_.contexts[(first_row_ + row) * columns_ + column];
    }
    float* column_of(std::vector<float>& matrix, std::size_t column) noexcept {
        return matrix.data() + column * rows_;
    }

    const Model& model_;
    const trellis::Plan& plan_;
    const Sides& sides_;
    Output out_;
    std::size_t columns_;
    std::size_t first_row_;  // of the whole matrix
    std::size_t rows_;       // of this panel
    std::size_t row_stride_;
    std::vector<Place> places_;
    std::vector<float> weights_;  // once decided, the errors w - q
    std::vector<float> targets_;  // without the output side's share
    std::vector<float> shift_;    // of the column at hand, by the output side
    std::vector<float> left_;     // of the column at hand: target less value
    double error_ = 0;
    std::size_t column_ = 0;
    trellis::BranchRow branches_;
    std::vector<trellis::Decision> decisions_;
};

Panel::Panel(const Model& model, const trellis::Plan& plan, const Layout& layout,
             std::span<const float> weights, const Sides& sides, std::size_t delay, std::size_t first_strand,
             std::size_t end_strand, const Output& out)
    : model_(model),
      plan_(plan),
      sides_(sides),
      columns_(layout.columns),
      first_row_(first_strand == 0 ? 0 : layout.strands[first_strand - 1]),
      rows_(layout.strands[end_strand - 1] - first_row_),
      row_stride_(layout.rows),
      weights_(rows_ * columns_),
      shift_(rows_),
      left_(rows_) {
    out_ = {out.levels.subspan(first_row_ * columns_, rows_ * columns_),
            out.targets.subspan(first_row_ * columns_, rows_ * columns_)};
    const trellis::Code& code = trellis::code_of(model.options.states);
    std::size_t window = 0;
    std::size_t row = 0;
    for (const std::size_t end : layout.strands.subspan(first_strand, end_strand - first_strand)) {
        const std::size_t rows = end - first_row_ - row;
        // A block's rows were decided in the column before: what is undecided lies between.
        const std::size_t block = std::clamp<std::size_t>(rows / 4, 1, kRowBlock);
        const std::size_t keep = std::min(delay, rows - block);
        window = std::max(window, keep + block);
        places_.push_back(
            {row, rows, block, keep, 0, 0, trellis::Strand(code, model.options.alphabet, keep + block)});
        row += rows;
    }
    decisions_.resize(window);
    for (row = 0; row < rows_; ++row) {
        const float* const from = weights.data() + (first_row_ + row) * columns_;
        for (std::size_t column = 0; column < columns_; ++column)
            weights_[column * rows_ + row] = from[column];
    }
    targets_ = weights_;
}

double Panel::run() {
    for (column_ = 0; column_ < columns_; ++column_) {
        std::fill(shift_.begin(), shift_.end(), 0.0F);
        for (Place& place : places_) {
            for (std::size_t row = 0; row < place.rows; row += place.block) {
                const std::size_t n = std::min(place.block, place.rows - row);
                if (!sides_.input.empty()) feed_back(column_, place.first_row + row, n);
                push(place, column_, place.first_row + row, n);
            }
            // Rows that follow in other strands must know what this one's errors are.
            if (!sides_.output.empty()) settle(place, 0);
        }
        if (!sides_.output.empty()) measure();
    }
    for (Place& place : places_) settle(place, 0);
    return error_;
}

// Adds the error of a column that is decided: left_ times the output side's root.
void Panel::measure() {
    std::copy(left_.begin(), left_.end(), shift_.begin());
    for (std::size_t row = 0; row < rows_; ++row) move_below(left_[row], row, row + 1);
    for (const float x : shift_) error_ += static_cast<double>(x) * static_cast<double>(x);
}

// Adds what the errors of the columns before imply for n rows of a column: those of its own block of columns
// now, those of each block before when the next one began. Always in the order of the columns, so blocks
// change no bit.
void Panel::feed_back(std::size_t column, std::size_t row, std::size_t n) {
    const std::size_t group_rows = row_stride_ / (sides_.input.size() / (columns_ * columns_));
    while (n > 0) {
        const std::size_t group = (first_row_ + row) / group_rows;
        const std::size_t count = std::min(n, (group + 1) * group_rows - first_row_ - row);
        const float* const triangle = sides_.input.data() + group * columns_ * columns_;
        const std::size_t block = column / kColumnBlock * kColumnBlock;
        if (block == column && column != 0) {
            for (std::size_t to = column; to < columns_; ++to) {
                spread(triangle + to * columns_, column - kColumnBlock, column, row, count, to);
            }
        }
        spread(triangle + column * columns_, block, column, row, count, column);
        row += count;
        n -= count;
    }
}

void Panel::spread(const float* factors, std::size_t first, std::size_t end, std::size_t row, std::size_t n,
                   std::size_t to) noexcept {
    float* const target = column_of(targets_, to) + row;
    for (std::size_t from = first; from < end; ++from) {
        add_scaled(factors[from], column_of(weights_, from) + row, n, target);
    }
}

// What an error of a row adds to the targets of the rows from `first` on. quantise() has transposed the
// triangle.
void Panel::move_below(float error, std::size_t row, std::size_t first) noexcept {
    if (error == 0) return;
    add_scaled(error, sides_.output.data() + row * row_stride_ + first, rows_ - first, shift_.data() + first);
}

void Panel::push(Place& place, std::size_t column, std::size_t row, std::size_t n) {
    alignas(64) float x[kRowBlock] = {};
    alignas(64) std::uint8_t contexts[kRowBlock] = {};
    const float* const target = column_of(targets_, column) + row;
    for (std::size_t i = 0; i < n; ++i) {
        x[i] = target[i] + shift_[row + i];
        contexts[i] = static_cast<std::uint8_t>(context(row + i, column));
        out_.targets[(row + i) * columns_ + column] = x[i];
        // What is known of this row's error before it is decided: it will be about -shift.
        if (!sides_.output.empty()) move_below(-shift_[row + i], row + i, row + i + 1);
    }
    trellis::active_kernels().branch_metrics(plan_, x, contexts, 1, &branches_);
    place.strand.advance(branches_, n);
    place.pushed += n;
    settle(place, place.keep);
}

float Panel::value_of(const trellis::Decision& decision, std::size_t row, std::size_t column) const noexcept {
    int point = 256 * trellis::point_of(model_.options.alphabet, decision.union_index, decision.level);
    const trellis::Points& points = model_.points;
    if (!points.offsets.empty() && std::abs(decision.level) <= points.reach) {
        const std::size_t table = 2 * context(row, column) + decision.union_index;
        const auto width = 2 * static_cast<std::size_t>(points.reach) + 1;
        point += points.offsets[table * width + static_cast<std::size_t>(decision.level + points.reach)];
    }
    return static_cast<float>(point) / 256.0F;
}

void Panel::settle(Place& place, std::size_t keep) {
    const std::size_t count = place.strand.decide(keep, decisions_.data());
    std::size_t column = place.decided / place.rows;
    std::size_t row = place.first_row + place.decided % place.rows;
    const std::size_t next =
        place.first_row + (place.pushed - 1) % place.rows + 1;  // row that is not coded yet
    for (std::size_t i = 0; i < count; ++i) {
        const float value = value_of(decisions_[i], row, column);
        out_.levels[row * columns_ + column] = decisions_[i].level;
        weights_[column * rows_ + row] -= value;
        left_[row] = targets_[column * rows_ + row] - value;
        if (sides_.output.empty()) {
            error_ += static_cast<double>(left_[row]) * static_cast<double>(left_[row]);
        } else {
            move_below(out_.targets[row * columns_ + column] - value, row, next);
        }
        if (++row == place.first_row + place.rows) {
            row = place.first_row;
            ++column;
        }
    }
    place.decided += count;
}

void check(const Model& model, const Layout& layout, std::span<const float> weights, const Sides& sides,
           const Output& out) {
    const std::size_t n = layout.rows * layout.columns;
    const auto fits = [](std::size_t size, std::size_t wanted, const char* name) {
        if (size != wanted) {
            throw ArgumentError(std::string(name) + " has " + std::to_string(size) + " elements, " +
                                std::to_string(wanted) + " are needed");
        }
    };
    std::size_t last = 0;
    for (const std::size_t end : layout.strands) {
        if (end <= last) throw ArgumentError("strands must end at rising rows");
        last = end;
    }
    if (last != layout.rows) throw ArgumentError("the last strand must end with the last row");
    fits(weights.size(), n, "weights");
    fits(out.levels.size(), n, "levels");
    fits(out.targets.size(), n, "targets");
    const std::size_t square = layout.columns * layout.columns;
    if (!sides.input.empty() && (square == 0 || sides.input.size() % square != 0 ||
                                 layout.rows % (sides.input.size() / square) != 0)) {
        throw ArgumentError("input has " + std::to_string(sides.input.size()) +
                            " elements: not one square of " + std::to_string(layout.columns) +
                            " for each group of rows");
    }
    if (!sides.output.empty()) fits(sides.output.size(), layout.rows * layout.rows, "output");
    if (!model.contexts.empty()) {
        fits(model.contexts.size(), n, "contexts");
        const std::size_t greatest =
            n == 0 ? 0 : *std::max_element(model.contexts.begin(), model.contexts.end());
        if (greatest >= model.shape.contexts) {
            throw ArgumentError("context " + std::to_string(greatest) + " has no tables: there are " +
                                std::to_string(model.shape.contexts));
        }
    }
    fits(model.costs.size(), model.shape.size(), "costs");
    if (!model.points.offsets.empty()) {
        fits(model.points.offsets.size(),
             model.shape.contexts * 2 * (2 * static_cast<std::size_t>(model.points.reach) + 1), "offsets");
    }
    for (const auto values : {weights, sides.input, sides.output}) {
        if (!std::all_of(values.begin(), values.end(), [](float x) { return std::isfinite(x); })) {
            throw ArgumentError("weights and feedback must be finite");
        }
    }
}

}  // namespace

double quantise(const Model& model, const Layout& layout, std::span<const float> weights, const Sides& sides,
                std::size_t delay, std::size_t threads, const Output& out) {
    check(model, layout, weights, sides, out);
    if (weights.empty()) return 0;
    const std::vector<std::uint16_t> rates = trellis::rates_of(model.costs, model.options.lambda);
    const trellis::Plan plan{model.options.alphabet,
                             model.options.states,
                             nullptr,
                             rates.data(),
                             static_cast<std::uint32_t>(model.shape.width()),
                             model.shape.radius,
                             1.0F,
                             trellis::limit_of(model.shape.radius),
                             trellis::kLaneGroup};
    std::vector<float> transposed(sides.output.size());
    for (std::size_t i = 0; i < layout.rows && !transposed.empty(); ++i) {
        for (std::size_t k = 0; k < i; ++k)
            transposed[k * layout.rows + i] = sides.output[i * layout.rows + k];
    }
    const Sides ready{sides.input, transposed};
    const std::size_t strands = layout.strands.size();
    const std::size_t together = transposed.empty() ? 1 : strands;  // the output side ties all rows
    std::vector<double> errors(strands / together);
    parallel_for(errors.size(), threads, [&](std::size_t i) {
        errors[i] =
            Panel(model, plan, layout, weights, ready, delay, i * together, (i + 1) * together, out).run();
    });
    return std::accumulate(errors.begin(), errors.end(), 0.0);
}

}  // namespace nncodec::feedback
