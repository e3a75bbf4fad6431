// Interleaved static rANS for trellis levels: the table of a symbol depends on a state that the symbols
// before it have moved. Bytes: docs/format.md#trellis-rans
//
// What surprises: a lane is a contiguous piece of the sequence (element i of lane j is at j * piece + i), not
// every lanes-th element, because each lane follows a trellis of its own. Tables come in pairs: table 2 *
// context + u serves the elements of that context that are met in union u. A symbol is a level plus an even
// number, so the parity of one is that of the other, and what a symbol stands for is the codec's affair:
// `points` holds a float for each.
#pragma once

#include <cstdint>
#include <memory>
#include <span>

#include "base/bytes.hpp"
#include "entropy/rans.hpp"
#include "quantize/trellis.hpp"

namespace nncodec::rans {

// Contexts that the pairs of tables can be told apart by.
inline constexpr std::size_t kMaxTrellisContexts = kMaxTables / 2;

class TrellisEncoder {
  public:
    // Throws ArgumentError unless there are 2 to 256 legal tables of 12 prob_bits, an even number.
    TrellisEncoder(std::span<const Frequencies> tables, const trellis::Code& code);
    // Appends the stream: `lanes` states, then 16-bit words. `contexts` is empty (all 0) or as long as
    // `symbols`. Throws ArgumentError if a context has no tables, a symbol has frequency 0, or `lanes` is no
    // power of two from 1 to 64. Lanes hold whole units (at least 1).
    void encode(std::span<const std::uint8_t> symbols, std::span<const std::uint8_t> contexts, unsigned lanes,
                Bytes& out, std::size_t unit = 1) const;

  private:
    std::shared_ptr<const EncodeTables> tables_;
    trellis::Code code_;
};

struct TrellisTables;  // rans_trellis_kernels.hpp

class TrellisDecoder {
  public:
    // points: float of each symbol, 256 per table. Throws ArgumentError as TrellisEncoder does, or if sizes
    // differ.
    TrellisDecoder(std::span<const Frequencies> tables, std::span<const float> points,
                   const trellis::Code& code);
    // Fills `values` from a stream that TrellisEncoder made of as many symbols. Untrusted input: throws
    // DecodeError as Decoder::decode does. Throws ArgumentError on a bad number of lanes or a context without
    // tables.
    void decode(ByteView stream, std::span<const std::uint8_t> contexts, unsigned lanes,
                std::span<float> values, std::size_t unit = 1) const;

  private:
    std::shared_ptr<const TrellisTables> tables_;
    trellis::Code code_;
};

}  // namespace nncodec::rans
