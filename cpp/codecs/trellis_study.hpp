// What an encoder of the trellis codec finds out about a part before it knows the final step.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "codecs/trellis.hpp"
#include "codecs/trellis_classes.hpp"
#include "codecs/trellis_evaluation.hpp"
#include "quantize/float_source.hpp"

namespace nncodec::trellis_codec {

// Lanes cost some 28 bits in each chunk. Where there are many chunks they are longer: at 16 lanes, 0.0009
// bits a weight less.
inline constexpr std::size_t kChunkElements = std::size_t{1} << 18;
inline constexpr std::size_t kLongChunkElements = std::size_t{1} << 19;
inline constexpr std::size_t kLongChunksFrom = std::size_t{1} << 22;  // elements
// Turns of paths and tables: from a guess, the final search included; and from the tables of a step nearby.
inline constexpr int kRounds = 5;
inline constexpr int kWarmRounds = 2;

// What the search of a whole record gave, in the order of coding.
struct Path {
    std::vector<std::int16_t> levels;
    Model made;                // with final tables
    double bits = 0;           // of the stream
    double squared_error = 0;  // in steps
};

// How to search paths at one step.
struct Search {
    Model model;  // without final tables
    std::uint32_t lambda = 0;
    double lambda_steps = 0;  // the same in steps squared per bit
    std::vector<std::uint16_t> costs;
    int radius = 4;
    double stream_bits = 0;            // of the sample
    double table_bits = 0;             // that histograms take more than the model's parameters
    double begun_bits = 0;             // a weight, estimated, where its alphabet was chosen
    bool only_parameters = false;      // histograms would be larger by far
    std::shared_ptr<const Path> path;  // of the last search, if that was of the whole record
};

class Study {
  public:
    Study(const TrellisInput& input, const TrellisOptions& options, double step, std::size_t threads);
    Study(const Study&) = delete;  // it refers to its own memory
    Study& operator=(const Study&) = delete;

    std::size_t elements() const noexcept { return source_.size(); }
    const TrellisOptions& options() const noexcept { return options_; }
    // As tensors are stored, and what they hold.
    const std::vector<Shape>& shapes() const noexcept { return shapes_; }
    DType dtype() const noexcept { return source_.dtype(); }
    const FloatSource& stored_source() const noexcept { return stored_source_; }
    std::span<const float> stored_importance() const noexcept { return stored_importance_; }

    // Searches the sample so many times, from the tables of `from` if it is given, else from a guess.
    struct Outcome {
        Search used;   // by the last search
        Search after;  // with the tables that its statistics gave
        Statistics statistics;
        Model made;            // what a plan would make of the paths
        double made_bits = 0;  // of its streams, for the sample
    };
    Outcome prepare(double step, const Search* from, int rounds, std::size_t threads) const;
    TrellisTrial trial_of(const Outcome& outcome) const;

    // Whether a decoder's integer transform is exact at this step.
    bool fits_integers(double step) const noexcept;
    // Whether the sample is all there is, in one chunk.
    bool is_whole() const noexcept { return sample_.size() == elements() && elements() <= chunk_elements_; }
    std::size_t chunk_elements() const noexcept { return chunk_elements_; }
    // Lanes of a stream of so many bits in all.
    unsigned lanes_for(double stream_bits) const noexcept;
    // Elements of a chunk in units of their steps, transformed; and what their squared errors weigh (empty:
    // all alike).
    void load(std::size_t first, std::span<float> out) const;
    void load_weights(std::size_t first, std::span<float> out) const;
    bool has_weights() const noexcept { return !importance_.empty() || has_steps_; }

  private:
    class LayoutCosts;

    // Of tensors of so many elements.
    Evaluation evaluation(std::size_t n, double step, std::size_t threads) const noexcept;
    class Chooser;

    void check(const TrellisInput& input, std::size_t threads);
    bool can_have_layout(std::size_t tensor, LayoutKind kind) const;
    void choose_layouts(double step, std::size_t threads);
    void take_layouts();  // all that follows sees tensors in the order of coding
    void choose_steps();
    void choose_transforms(double step, std::size_t threads);
    void take_sample();
    void judge_shape(double step);
    void set_offsets(Model& model) const;
    float checked_step(double step) const;
    double finest_step() const noexcept;  // that levels can span
    std::vector<std::uint8_t> sample_sums(const Model& model) const;
    // Sets a model's step; the sample's sums at it, and how often each occurs. Offsets are those of `like` if
    // its step is near.
    std::vector<std::uint64_t> count_sums(double step, Model& model, std::vector<std::uint8_t>& sums,
                                          const Model* like = nullptr) const;
    struct Alphabets {
        bool plain = true;
        bool both_zero = true;
        bool has(trellis::Alphabet alphabet) const noexcept {
            return alphabet == trellis::Alphabet::plain ? plain : both_zero;
        }
    };
    Alphabets alphabets(double step, double bits, std::span<const std::uint8_t> sums) const;
    double peak(double step, std::span<const std::uint8_t> sums) const;
    static bool serves(const Search& from, double bits);
    // The sample in the order of coding.
    struct Sample {
        std::vector<float> values;
        std::vector<std::uint8_t> sums;
        std::vector<float> weights;
    };
    Sample ordered(std::span<const std::uint8_t> sums, const SumMap* class_of) const;
    // What the first search uses, at a step made for the alphabet, and the sample's sums there.
    Search start(double step, double factor, trellis::Alphabet alphabet, const Search* from,
                 std::vector<std::uint8_t>& sums) const;
    static Sample thinned(const Sample& sample);
    // Keeps the levels of a whole record if they are wanted.
    void search_sample(const Search& search, const Sample& sample, std::size_t threads, Statistics& into,
                       std::vector<std::int16_t>* levels = nullptr) const;
    double rounding_error() const;

    FloatSource stored_source_;
    std::span<const float> stored_importance_;
    std::vector<Shape> shapes_;
    // The same in the order of coding, and copies where that is another.
    FloatSource source_;
    std::span<const float> importance_;
    std::vector<Shape> coded_shapes_;
    Bytes coded_bytes_;
    std::vector<float> coded_importance_;
    TrellisOptions options_;
    double importance_mean_ = 1;
    std::string name_;
    double energy_ = 0;   // sum of weighted squares
    double largest_ = 0;  // magnitude of what is quantised
    double longest_ = 0;  // norm of what a basis transforms at once
    bool has_steps_ = false;
    bool gaussian_ = false;  // as far as the sample tells, each element over its scale; large tensors only
    Model skeleton_;         // tensors and basis
    std::vector<std::int64_t> bases_;  // of each tensor: log2 of the mean magnitude at scale 0
    std::size_t chunk_elements_ = 1;
    // The sample: runs of the record end to end.
    struct Part {
        std::size_t first = 0;
        std::size_t count = 0;
    };
    std::vector<Part> parts_;
    std::vector<float> sample_;
    std::vector<float> sample_weights_;
};

// Paths of a run of elements in the order of coding, and the union of each level; lanes as the model has
// them.
void search_paths(const Search& search, std::span<const float> values, std::span<const std::uint8_t> sums,
                  std::span<std::int16_t> levels, std::span<std::uint8_t> unions);

}  // namespace nncodec::trellis_codec
