// Interleaved static rANS for trellis levels: the table of a symbol depends on a state that the symbols
// before it have moved. Bytes: docs/format.md#trellis-rans
//
// What surprises: each lane follows a trellis of its own. Element i belongs to lane i mod N; or, where a
// `unit` is given, lanes are contiguous pieces of whole units (see trellis::piece_of). Tables come in pairs:
// table 2 * context + u serves the elements of that context that are met in union u. A symbol is a level plus
// an even number, so the parity of one is that of the other, and what a symbol stands for is the codec's
// affair. The number of buckets is each pair's own.
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
// As unit: lanes take turns.
inline constexpr std::size_t kInterleaved = 0;

class TrellisEncoder {
  public:
    // Throws ArgumentError unless there are 2 to 256 legal tables of 12 prob_bits, an even number.
    TrellisEncoder(std::span<const Frequencies> tables, const trellis::Code& code);
    // Appends the stream: `lanes` states, then 16-bit words. `contexts` is empty (all 0) or as long as
    // `symbols`. Throws ArgumentError if a context has no tables, a symbol has frequency 0, or `lanes` is no
    // power of two from 1 to 64.
    void encode(std::span<const std::uint8_t> symbols, std::span<const std::uint8_t> contexts, unsigned lanes,
                Bytes& out, std::size_t unit = kInterleaved) const;

  private:
    Encoder coder_;
    trellis::Code code_;
};

struct TrellisTables;  // rans_trellis_kernels.hpp

class TrellisDecoder {
  public:
    // values: what each symbol stands for, 256 per table. Throws ArgumentError as TrellisEncoder does, or if
    // sizes differ.
    TrellisDecoder(std::span<const Frequencies> tables, std::span<const std::int16_t> values,
                   const trellis::Code& code);
    // Fills `out` with the values of a stream that TrellisEncoder made of as many symbols; fastest where
    // neighbours have one context. Untrusted input: throws DecodeError as Decoder::decode does. Throws
    // ArgumentError on a bad number of lanes or a context without tables.
    void decode(ByteView stream, std::span<const std::uint8_t> contexts, unsigned lanes,
                std::span<std::int16_t> out, std::size_t unit = kInterleaved) const;

  private:
    std::shared_ptr<const TrellisTables> tables_;
    trellis::Code code_;
};

}  // namespace nncodec::rans
