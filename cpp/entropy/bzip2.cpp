#include "entropy/bzip2.hpp"

#include <array>
#include <string>
#include <vector>

#include "base/error.hpp"

namespace nncodec::bzip2 {
namespace {

constexpr unsigned kGroupSymbols = 50;  // coded with one table before the next selector
constexpr unsigned kMaxLength = 20;     // bits of a Huffman code
constexpr unsigned kMaxAlphabet = 258;  // two run symbols, up to 255 places, end of block
constexpr std::uint64_t kBlockMagic = 0x314159265359;
constexpr std::uint64_t kEndMagic = 0x177245385090;

[[noreturn]] void fail(const char* problem) {
    throw DecodeError(std::string("bzip2 stream: ") + problem);
}

// Most significant bit first.
class Bits {
  public:
    explicit Bits(ByteView data) noexcept : data_(data) {}

    std::uint32_t read(unsigned n) {  // 1 to 24
        while (count_ < n) {
            if (at_ == data_.size()) fail("it is too short");
            pending_ = pending_ << 8 | data_[at_++];
            count_ += 8;
        }
        count_ -= n;
        return static_cast<std::uint32_t>(pending_ >> count_) & ((1U << n) - 1);
    }
    bool bit() { return read(1) != 0; }
    std::uint64_t long_word(unsigned halves) {  // of 24 bits
        std::uint64_t value = 0;
        for (unsigned i = 0; i < halves; ++i) value = value << 24 | read(24);
        return value;
    }
    bool at_end() const noexcept { return at_ == data_.size(); }

  private:
    ByteView data_;
    std::size_t at_ = 0;
    std::uint64_t pending_ = 0;
    unsigned count_ = 0;  // bits in pending_ that were not read, at most 31
};

constexpr std::array<std::uint32_t, 256> make_crc_table() {
    std::array<std::uint32_t, 256> table{};
    for (std::uint32_t i = 0; i < 256; ++i) {
        std::uint32_t crc = i << 24;
        for (int bit = 0; bit < 8; ++bit) crc = crc << 1 ^ ((crc >> 31) != 0 ? 0x04C11DB7U : 0U);
        table[i] = crc;
    }
    return table;
}
constexpr auto kCrcTable = make_crc_table();

// A canonical Huffman code, decoded length by length.
class Code {
  public:
    explicit Code(std::span<const std::uint8_t> lengths) {
        for (const std::uint8_t length : lengths) ++of_length_[length];
        unsigned at = 0;
        for (unsigned length = 1; length <= kMaxLength; ++length) {
            for (unsigned symbol = 0; symbol < lengths.size(); ++symbol) {
                if (lengths[symbol] == length) symbols_[at++] = static_cast<std::uint16_t>(symbol);
            }
        }
    }

    unsigned read(Bits& bits) const {
        std::uint32_t code = 0;
        std::uint32_t first = 0;  // of this length
        unsigned at = 0;
        for (unsigned length = 1; length <= kMaxLength; ++length) {
            code = code << 1 | bits.read(1);
            if (code < first) fail("a Huffman code is overfull");
            if (code - first < of_length_[length]) return symbols_[at + code - first];
            at += of_length_[length];
            first = (first + of_length_[length]) << 1;
        }
        fail("a code word is none of its table");
    }

  private:
    std::array<std::uint16_t, kMaxLength + 1> of_length_{};
    std::array<std::uint16_t, kMaxAlphabet> symbols_{};
};

// Bytes after the first run-length coding: four equal ones are followed by how many more there are.
class Output {
  public:
    explicit Output(std::span<std::uint8_t> out) noexcept : out_(out) {}

    void put(std::uint8_t byte) {
        if (run_ == 4) {
            for (unsigned i = 0; i < byte; ++i) emit(last_);
            run_ = 0;
            return;
        }
        run_ = run_ > 0 && byte == last_ ? run_ + 1 : 1;
        last_ = byte;
        emit(byte);
    }
    // Ends a block: its checksum.
    std::uint32_t finish_block() {
        const std::uint32_t crc = ~crc_;
        crc_ = 0xFFFFFFFF;
        run_ = 0;
        return crc;
    }
    bool full() const noexcept { return at_ == out_.size(); }

  private:
    void emit(std::uint8_t byte) {
        if (full()) fail("it makes more bytes than wanted");
        out_[at_++] = byte;
        crc_ = crc_ << 8 ^ kCrcTable[crc_ >> 24 ^ byte];
    }

    std::span<std::uint8_t> out_;
    std::size_t at_ = 0;
    std::uint32_t crc_ = 0xFFFFFFFF;
    unsigned run_ = 0;
    std::uint8_t last_ = 0;
};

std::vector<Code> read_codes(Bits& bits, unsigned tables, unsigned alphabet) {
    std::vector<Code> codes;
    for (unsigned t = 0; t < tables; ++t) {
        std::array<std::uint8_t, kMaxAlphabet> lengths{};
        unsigned length = bits.read(5);
        for (unsigned symbol = 0; symbol < alphabet; ++symbol) {
            while (true) {
                if (length < 1 || length > kMaxLength) fail("a code length is none of 1 to 20");
                if (!bits.bit()) break;
                length += bits.bit() ? -1U : 1U;
            }
            lengths[symbol] = static_cast<std::uint8_t>(length);
        }
        codes.emplace_back(std::span<const std::uint8_t>(lengths).first(alphabet));
    }
    return codes;
}

// The block's symbols with their moves to the front undone: the last column of the sorted rotations.
void read_symbols(Bits& bits, std::size_t limit, std::vector<std::uint32_t>& column) {
    std::array<std::uint8_t, 256> front{};
    unsigned used = 0;
    const std::uint32_t rows = bits.read(16);
    for (unsigned row = 0; row < 16; ++row) {
        if ((rows >> (15 - row) & 1) == 0) continue;
        const std::uint32_t present = bits.read(16);
        for (unsigned i = 0; i < 16; ++i) {
            if ((present >> (15 - i) & 1) != 0) front[used++] = static_cast<std::uint8_t>(16 * row + i);
        }
    }
    if (used == 0) fail("a block uses no byte");
    const unsigned alphabet = used + 2;
    const unsigned tables = bits.read(3);
    const std::uint32_t groups = bits.read(15);
    if (tables < 2 || tables > 6 || groups < 1) fail("a block has a wrong number of tables or groups");
    std::vector<std::uint8_t> selectors(groups);
    std::array<std::uint8_t, 6> order{0, 1, 2, 3, 4, 5};
    for (std::uint8_t& selector : selectors) {
        unsigned place = 0;
        while (bits.bit()) {
            if (++place >= tables) fail("a selector is beyond the tables");
        }
        selector = order[place];
        for (; place > 0; --place) order[place] = order[place - 1];
        order[0] = selector;
    }
    const std::vector<Code> codes = read_codes(bits, tables, alphabet);

    column.clear();
    std::size_t run = 0;
    std::size_t weight = 1;
    for (const std::uint8_t selector : selectors) {
        for (unsigned i = 0; i < kGroupSymbols; ++i) {
            const unsigned symbol = codes[selector].read(bits);
            if (symbol <= 1) {  // digits 1 and 2 of the run's length, least significant first
                if (weight > limit) fail("a run is longer than its block");
                run += weight << symbol;
                weight <<= 1;
                continue;
            }
            if (run > limit - column.size()) fail("a block is longer than it says");
            column.insert(column.end(), run, front[0]);
            run = 0;
            weight = 1;
            if (symbol == alphabet - 1) return;
            if (column.size() == limit) fail("a block is longer than it says");
            const unsigned place = symbol - 1;
            const std::uint8_t byte = front[place];
            for (unsigned p = place; p > 0; --p) front[p] = front[p - 1];
            front[0] = byte;
            column.push_back(byte);
        }
    }
    fail("a block has no end");
}

// The upper 24 bits of each entry become the order in which bytes follow each other.
void write_block(std::vector<std::uint32_t>& column, std::uint32_t origin, Output& out) {
    if (origin >= column.size()) fail("a block's origin is outside it");
    std::array<std::uint32_t, 257> place{};
    for (const std::uint32_t byte : column) ++place[(byte & 0xFF) + 1];
    for (unsigned i = 0; i < 256; ++i) place[i + 1] += place[i];
    for (std::uint32_t i = 0; i < column.size(); ++i) column[place[column[i] & 0xFF]++] |= i << 8;
    std::uint32_t at = column[origin] >> 8;
    for (std::size_t i = 0; i < column.size(); ++i) {
        const std::uint32_t entry = column[at];
        out.put(static_cast<std::uint8_t>(entry & 0xFF));
        at = entry >> 8;
    }
}

}  // namespace

void decode(ByteView stream, std::span<std::uint8_t> out) {
    Bits bits(stream);
    if (bits.read(24) != 0x425A68) fail("it does not begin with BZh");
    const std::uint32_t level = bits.read(8);
    if (level < '1' || level > '9') fail("its block size is none of 1 to 9");
    const std::size_t limit = (level - '0') * std::size_t{100000};
    Output output(out);
    std::uint32_t combined = 0;
    std::vector<std::uint32_t> column;
    while (true) {
        const std::uint64_t magic = bits.long_word(2);
        const std::uint32_t crc = bits.read(16) << 16 | bits.read(16);
        if (magic == kEndMagic) {
            if (crc != combined) fail("its checksum is wrong");
            break;
        }
        if (magic != kBlockMagic) fail("a block does not begin as it should");
        if (bits.bit()) fail("a block is randomised, which is no longer done");
        const std::uint32_t origin = bits.read(24);
        read_symbols(bits, limit, column);
        write_block(column, origin, output);
        const std::uint32_t made = output.finish_block();
        if (made != crc) fail("the checksum of a block is wrong");
        combined = (combined << 1 | combined >> 31) ^ crc;
    }
    if (!output.full()) fail("it makes fewer bytes than wanted");
    if (!bits.at_end()) fail("bytes are left over");
}

}  // namespace nncodec::bzip2
