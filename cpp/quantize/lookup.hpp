// Indices to the entries of a table: a clustered tensor is decoded by it. Arithmetic: docs/format.md#codebook
//
// Entries are bytes, whatever they mean: one number of 2, 4 or 8 bytes, or a short vector of them. Nothing is
// computed, so every instruction set gives the same.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "base/bytes.hpp"

namespace nncodec::lookup {

// Ready for look-ups; immutable once built.
class Table {
  public:
    Table() = default;
    // 1 to 65536 entries of `entry_bytes` (1, 2, 4, 8, 16 or 32). Throws ArgumentError.
    Table(ByteView entries, std::size_t entry_bytes);

    std::size_t size() const noexcept { return size_; }
    std::size_t entry_bytes() const noexcept { return entry_bytes_; }

    // out = the entries of these indices. Indices beyond the table give entries of zeros (for bytes) or must
    // not be (for wider ones, which the caller has checked). `out` has entry_bytes() per index.
    void run(std::span<const std::uint8_t> indices, std::span<std::uint8_t> out) const noexcept;
    void run(std::span<const std::uint16_t> indices, std::span<std::uint8_t> out) const noexcept;
    // Indices of `bits` bits (1 to 16) packed as docs/format.md#bit-packing says; `n` of them. Throws
    // ArgumentError, also for indices of more than 8 bits that are beyond the table.
    void run_packed(ByteView packed, unsigned bits, std::size_t n, std::span<std::uint8_t> out) const;

  private:
    std::size_t size_ = 0;
    std::size_t entry_bytes_ = 0;
    Bytes entries_;  // at least 256 of them, the rest zeros
};

}  // namespace nncodec::lookup
