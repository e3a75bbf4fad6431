#include "entropy/lzw.hpp"

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>
#include <memory>
#include <numeric>
#include <utility>
#include <vector>

#include "base/bits.hpp"
#include "base/interrupt.hpp"
#include "base/memory.hpp"

namespace nncodec::lzw {
namespace {

constexpr std::uint32_t kLeaves = 256;
constexpr std::uint32_t kFull = 1U << kMaxCodeBits;

// Width of the next code when `known` codes exist on the encoder's side.
unsigned width_of(std::uint32_t known) noexcept {
    return static_cast<unsigned>(std::bit_width(known - 1));
}

// The string in hand, and the strings there are: one byte longer ones by (code, byte), open addressing, at
// most half full.
class Dictionary {
  public:
    Dictionary() : slots_(kSlots) {}

    void clear() { std::fill(slots_.begin(), slots_.end(), Slot{}); }
    void start(std::uint8_t byte) noexcept { code_ = byte; }
    std::uint32_t code() const noexcept { return code_; }

    // Goes on to the string one byte longer. False if there is none: add() would add it.
    bool advance(std::uint8_t byte) noexcept {
        key_ = (code_ << 8 | byte) + 1;
        for (at_ = key_ * 2654435761U >> (32 - kSlotBits);; at_ = (at_ + 1) % kSlots) {
            if (slots_[at_].key == key_) {
                code_ = slots_[at_].code;
                return true;
            }
            if (slots_[at_].key == 0) return false;
        }
    }

    void add(std::uint32_t code) noexcept { slots_[at_] = {key_, code}; }

  private:
    static constexpr unsigned kSlotBits = 17;
    static constexpr std::uint32_t kSlots = 1U << kSlotBits;
    struct Slot {
        std::uint32_t key = 0;
        std::uint32_t code = 0;
    };
    std::vector<Slot> slots_;
    std::uint32_t code_ = 0;
    std::uint32_t key_ = 0;  // what was looked for, and where it should have been
    std::uint32_t at_ = 0;
};

void encode_by_search(ByteView data, Bytes& out) {
    Dictionary strings;
    BitWriter bits(out);
    std::uint32_t known = kLeaves;
    strings.start(data[0]);
    for (const std::uint8_t byte : data.subspan(1)) {
        if (strings.advance(byte)) continue;
        bits.write(strings.code(), width_of(known));
        if (known < kFull) strings.add(known);
        if (++known > kFull) {
            interruption_point();
            strings.clear();
            known = kLeaves;
        }
        strings.start(byte);
    }
    bits.write(strings.code(), width_of(known));
    bits.finish();
}

// Byte values that occur, the commonest first.
struct Ranks {
    explicit Ranks(ByteView data) noexcept {
        // Neighbours tend to be equal: two counters each, lest one wait for the other.
        std::array<std::size_t, 256> counts{}, others{};
        for (std::size_t i = 0; i + 1 < data.size(); i += 2) {
            ++counts[data[i]];
            ++others[data[i + 1]];
        }
        if (data.size() % 2 != 0) ++counts[data.back()];
        for (std::size_t byte = 0; byte < 256; ++byte) counts[byte] += others[byte];
        std::array<std::uint8_t, 256> bytes;
        std::iota(bytes.begin(), bytes.end(), std::uint8_t{0});
        std::sort(bytes.begin(), bytes.end(),
                  [&](int a, int b) { return std::pair(counts[b], a) < std::pair(counts[a], b); });
        while (used < 256 && counts[bytes[used]] != 0) {
            byte_of[used] = bytes[used];
            of[bytes[used]] = static_cast<std::uint8_t>(used);
            ++used;
        }
    }

    std::size_t used = 0;
    std::array<std::uint8_t, 256> of{};
    std::array<std::uint8_t, 256> byte_of{};
};

// The same with a tree, for data of few byte values: a string that was ever continued has a row, where the
// next byte is found without a search. Most strings have none, and a row fills a cache line or two, so that
// those which are often met stay near.
template <std::size_t kLines>
class Tree {
  public:
    static constexpr std::size_t kMostRanks = 32 * kLines - 5;

    Tree(const Ranks& ranks, std::size_t n)
        : ranks_(ranks),
          most_rows_(std::min(kMostRows, ranks.used + n)),
          memory_(take_buffer(most_rows_ * sizeof(Row) + alignment())) {
        void* at = memory_.data();
        std::size_t size = memory_.size();
        rows_ = static_cast<Row*>(std::align(alignment(), most_rows_ * sizeof(Row), at, size));
    }
    Tree(const Tree&) = delete;
    Tree& operator=(const Tree&) = delete;
    ~Tree() { give_buffer(std::move(memory_)); }

    void encode(ByteView data, Bytes& out) {
        BitWriter bits(out);
        clear();
        std::uint32_t known = kLeaves;
        Row* row = &rows_[ranks_.of[data[0]]];
        std::size_t i = 1;
        while (i < data.size()) {
            std::size_t rank = ranks_.of[data[i]];
            const std::uint16_t child = row->children[rank];
            if (row->has_row >> rank & 1) {
                row = &rows_[child];
                ++i;
                continue;
            }
            std::uint32_t code = row->code;
            if (child != 0) {  // the longest string; nothing continues it yet
                code = child;
                if (++i == data.size()) {
                    bits.write(code, width_of(known));
                    return bits.finish();
                }
                row->has_row |= std::uint64_t{1} << rank;
                row->children[rank] = static_cast<std::uint16_t>(n_rows_);
                row = &rows_[n_rows_++];
                *row = Row{};
                row->code = child;
                rank = ranks_.of[data[i]];
            }
            bits.write(code, width_of(known));
            row->children[rank] = static_cast<std::uint16_t>(known);  // 0 when there are all codes
            if (++known > kFull) {
                interruption_point();
                clear();
                known = kLeaves;
            }
            row = &rows_[rank];
            ++i;
        }
        bits.write(row->code, width_of(known));
        bits.finish();
    }

  private:
    struct Row {
        std::uint64_t has_row = 0;                         // of its children, by rank
        std::uint16_t code = 0;                            // of the string itself
        std::array<std::uint16_t, kMostRanks> children{};  // their rows, or codes; 0: no such string
    };
    static_assert(sizeof(Row) == 64 * kLines);
    // Those of single bytes come first; each of the others is the string of a code.
    static constexpr std::size_t kMostRows = kFull - kLeaves + kMostRanks;

    // On huge pages, where the system has them: a walk goes from anywhere to anywhere.
    std::size_t alignment() const noexcept {
        return most_rows_ * sizeof(Row) < kHugePage ? sizeof(Row) : kHugePage;
    }

    void clear() noexcept {
        n_rows_ = ranks_.used;
        for (std::size_t rank = 0; rank < n_rows_; ++rank) {
            rows_[rank] = Row{};
            rows_[rank].code = ranks_.byte_of[rank];
        }
    }

    const Ranks& ranks_;
    std::size_t most_rows_;
    Bytes memory_;
    Row* rows_;
    std::size_t n_rows_ = 0;
};

// Within `out`, forwards: the last byte of the newest string may be the first one that is written.
void copy_string(std::span<std::uint8_t> out, std::size_t from, std::size_t to, std::size_t length) noexcept {
    constexpr std::size_t kWord = 8;
    if (to - from >= kWord &&
        out.size() - to >= length + kWord) {  // what is written too much comes later anyway
        for (std::size_t i = 0; i < length; i += kWord)
            std::memcpy(out.data() + to + i, out.data() + from + i, kWord);
        return;
    }
    for (std::size_t i = 0; i < length; ++i) out[to + i] = out[from + i];
}

}  // namespace

void encode(ByteView data, Bytes& out) {
    if (data.empty()) return;
    const Ranks ranks(data);
    if (ranks.used <= Tree<1>::kMostRanks) return Tree<1>(ranks, data.size()).encode(data, out);
    if (ranks.used <= Tree<2>::kMostRanks) return Tree<2>(ranks, data.size()).encode(data, out);
    encode_by_search(data, out);
}

void decode(ByteView stream, std::span<std::uint8_t> out) {
    // A string of the dictionary is where it was first put out: the string of a code and the byte after it,
    // so from the start of one code's output to the first byte of the next one's.
    const std::size_t codes = std::min<std::size_t>(kFull - kLeaves, out.size()) + 1;
    Bytes memory = take_buffer(sizeof(std::size_t) * codes);
    auto* const starts = reinterpret_cast<std::size_t*>(memory.data());
    BitReader bits(stream);
    std::uint32_t known = kLeaves;
    for (std::size_t at = 0; at < out.size();) {
        const std::uint32_t code = bits.read(width_of(known));
        if (code >= known) throw DecodeError("LZW code " + std::to_string(code) + " does not exist");
        starts[known - kLeaves] = at;
        std::size_t length = 1;
        if (code < kLeaves) {
            out[at] = static_cast<std::uint8_t>(code);
        } else {
            const std::size_t from = starts[code - kLeaves];
            length = starts[code - kLeaves + 1] - from + 1;
            if (length > out.size() - at) throw DecodeError("LZW: more bytes than there should be");
            copy_string(out, from, at, length);
        }
        if (++known > kFull) {
            interruption_point();
            known = kLeaves;
        }
        at += length;
    }
    give_buffer(std::move(memory));
    check(bits.finish(), "LZW");
}

}  // namespace nncodec::lzw
