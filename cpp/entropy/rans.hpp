// Interleaved static rANS. Bytes: docs/format.md#rans
//
// What surprises: the encoder runs backwards over the symbols so that the decoder runs forwards; element i of
// a row belongs to lane i % lanes (each row starts at lane 0 again), so that a vector of consecutive symbols
// comes out of one step; a lane refills at most one 16-bit word per symbol, and lanes refill in ascending
// order from one shared stream of words.
//
// States are 32 bits in [2^16, 2^32). Symbols are bytes; each is coded with the table that its context picks:
// context = row_context[row] + column_context[column]. Both come from outside the stream (row and column
// scales), so the decoder knows every context before it decodes a symbol, and nothing adapts.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "base/bytes.hpp"
#include "base/error.hpp"

namespace nncodec::rans {

inline constexpr unsigned kMinProbBits = 12;
inline constexpr unsigned kMaxProbBits = 16;
inline constexpr unsigned kDefaultProbBits = 12;  // one 32-bit look-up holds symbol, frequency and offset
inline constexpr unsigned kMaxLanes = 64;         // powers of two from 1 on
inline constexpr std::size_t kMaxTables = 256;

// Frequencies of the symbols 0 .. size()-1; they sum to 2^prob_bits. A symbol of frequency 0 cannot be coded.
struct Frequencies {
    std::vector<std::uint32_t> of;  // at most 256 entries, the last one not 0
    unsigned prob_bits = kDefaultProbBits;

    bool operator==(const Frequencies&) const = default;
};

// The frequencies with the least code length for these counts: each symbol that occurs gets at least 1, the
// rest is shared so that sum(count * log2(freq)) is greatest. Integer arithmetic only. `counts`: at most 256,
// not all 0.
Frequencies normalise(std::span<const std::uint64_t> counts, unsigned prob_bits = kDefaultProbBits);

// Bits (rounded up to whole 1/256 bit units, fixed point with 8 fraction bits) that these counts cost under
// `table`; UINT64_MAX if a symbol that occurs has frequency 0.
std::uint64_t cost_in_256ths(std::span<const std::uint64_t> counts, const Frequencies& table) noexcept;

// Tables for these counts (one vector per table, none all 0) that cost least together with their
// serialisation: frequencies are rounded as coarsely as the counts allow. For large counts they are
// normalise's.
std::vector<Frequencies> fit_tables(std::span<const std::vector<std::uint64_t>> counts,
                                    unsigned prob_bits = kDefaultProbBits);

// Compact serialisation of a set of tables (all of the same prob_bits), shorter for tables made by
// fit_tables. read_tables validates everything; max_tables bounds what it accepts (at most kMaxTables).
void write_tables(ByteWriter& out, std::span<const Frequencies> tables);
std::vector<Frequencies> read_tables(ByteReader& in, std::size_t max_tables = kMaxTables);

// Where the symbols lie: n symbols in rows of `columns` (the last row may be short). A row's context is
// row_context[row]; a column's is column_context[column]; empty spans mean 0 for all.
struct Layout {
    std::size_t n = 0;
    std::size_t columns = 1;  // at least 1
    std::span<const std::uint8_t> row_context;
    std::span<const std::uint8_t> column_context;
};

// Throws ArgumentError if `columns` is 0, a context span has the wrong length, the greatest row context and
// the greatest column context add up to no table, or `lanes` is no power of two from 1 to 64.
void check_layout(const Layout& layout, unsigned lanes, std::size_t n_tables);

struct EncodeTables;  // rans_kernels.hpp
struct DecodeTables;

// Ready for coding; built once per tensor and shared by its chunks and threads. Immutable once built; copies
// share.
class Encoder {
  public:
    // Throws ArgumentError unless there are 1 to 256 tables of one prob_bits whose frequencies sum to
    // 2^prob_bits. So many tables in a row have the same number of buckets.
    explicit Encoder(std::span<const Frequencies> tables, std::size_t group = kMaxTables);
    // Appends the stream of layout.n symbols to `out`: lane states (32 bits each), then 16-bit words.
    // Throws ArgumentError if check_layout does, or if a symbol has frequency 0 in its table.
    void encode(std::span<const std::uint8_t> symbols, const Layout& layout, unsigned lanes,
                Bytes& out) const;

  private:
    std::shared_ptr<const EncodeTables> tables_;
    friend class TrellisEncoder;
};

class Decoder {
  public:
    // Throws ArgumentError as Encoder's does.
    explicit Decoder(std::span<const Frequencies> tables);
    // Fills symbols[0 .. layout.n) from a stream that Encoder::encode made and that must end where the
    // symbols end. Untrusted input: throws DecodeError when the stream is too short or long, or when a lane
    // does not end in the state that the encoder started from (2^16). Contexts are trusted: the caller checks
    // them against the tables.
    void decode(ByteView stream, const Layout& layout, unsigned lanes, std::span<std::uint8_t> symbols) const;

    std::size_t n_tables() const noexcept;

  private:
    std::shared_ptr<const DecodeTables> tables_;
};

// Lanes that cost at most about a thousandth of a stream of this many bytes; sixteen at least where they cost
// a three-hundredth.
unsigned lanes_for(std::size_t stream_bytes) noexcept;

}  // namespace nncodec::rans
