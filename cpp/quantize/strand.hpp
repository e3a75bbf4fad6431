// Trellis search of one sequence whose samples are not all known in advance: each may depend on what was
// decided about earlier ones. The Viterbi algorithm with a bounded delay of decision.
//
// What surprises: a decision is made by tracing the best path of the moment back beyond the newest `keep`
// samples. Should that path contradict what was decided before, which is rare once `keep` is some times the
// memory of the code, the undecided samples are searched again from the state that was decided. With
// unbounded delay the levels are those of trellis::Quantiser, to the bit.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "quantize/trellis.hpp"
#include "quantize/trellis_kernels.hpp"

namespace nncodec::trellis {

struct Decision {
    std::int16_t level;
    std::uint8_t union_index;  // that it was met in
};

class Strand {
  public:
    // Starts in state 0. `window`: the most samples that are undecided at any time.
    Strand(const Code& code, Alphabet alphabet, std::size_t window);

    // The next `count` samples: the first lanes of a row of branch metrics.
    void advance(const BranchRow& row, std::size_t count);
    // Decides all samples but the newest `keep`; returns how many, and writes them in order.
    std::size_t decide(std::size_t keep, Decision* decisions);
    std::size_t undecided() const noexcept { return undecided_; }

  private:
    using Advance = void (*)(const std::uint16_t (&branch)[2][2], std::uint16_t* metrics, std::uint8_t* odd);
    struct Sample {
        std::uint16_t branch[2][2];  // [union][parity]
        std::int16_t below;
        std::uint8_t upper;
    };

    void reach_only(unsigned state);
    void step(std::size_t place);
    std::size_t place(std::size_t age) const noexcept { return (oldest_ + age) % window_; }
    unsigned best_state() const noexcept;
    Decision decision(const Sample& sample, unsigned union_index, unsigned parity) const noexcept;
    bool trace(std::size_t count, Decision* decisions, unsigned& last);

    Code code_;
    Alphabet alphabet_;
    Advance advance_;
    std::size_t window_;
    std::size_t oldest_ = 0;
    std::size_t undecided_ = 0;
    std::size_t since_normalised_ = 0;
    unsigned first_state_ = 0;  // before the oldest undecided sample
    std::vector<std::uint16_t> metrics_;
    std::vector<Sample> samples_;    // a ring
    std::vector<std::uint8_t> odd_;  // [place in the ring][state after]: came by an odd level
};

}  // namespace nncodec::trellis
