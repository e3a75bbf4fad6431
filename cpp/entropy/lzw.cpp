#include "entropy/lzw.hpp"

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>
#include <utility>
#include <vector>

#include "base/bits.hpp"
#include "base/interrupt.hpp"
#include "base/memory.hpp"

namespace nncodec::lzw {
namespace {

constexpr std::uint32_t kLeaves = 256;
constexpr std::uint32_t kFull = 1U << kMaxCodeBits;
constexpr std::size_t kMostRanks = 64;                   // rows of 128 bytes: eight megabytes of them
constexpr std::size_t kRowsFrom = std::size_t{1} << 14;  // bytes: before, a table of that size costs more

// Width of the next code when `known` codes exist on the encoder's side.
unsigned width_of(std::uint32_t known) noexcept {
    return static_cast<unsigned>(std::bit_width(known - 1));
}

// (code, byte) to code, open addressing; at most half full.
class Dictionary {
  public:
    Dictionary() : slots_(kSlots) {}

    void clear() { std::fill(slots_.begin(), slots_.end(), Slot{}); }

    // The code of `prefix` followed by `byte`; if there is none, it becomes `fresh` and kFull is returned.
    std::uint32_t find_or_add(std::uint32_t prefix, std::uint8_t byte, std::uint32_t fresh) noexcept {
        const std::uint32_t key = (prefix << 8 | byte) + 1;
        for (std::uint32_t at = key * 2654435761U >> (32 - kSlotBits);; at = (at + 1) % kSlots) {
            if (slots_[at].key == key) return slots_[at].code;
            if (slots_[at].key == 0) {
                if (fresh < kFull) slots_[at] = {key, fresh};
                return kFull;
            }
        }
    }

  private:
    static constexpr unsigned kSlotBits = 17;
    static constexpr std::uint32_t kSlots = 1U << kSlotBits;
    struct Slot {
        std::uint32_t key = 0;
        std::uint32_t code = 0;
    };
    std::vector<Slot> slots_;
};

// The codes that continue each code, one row of them per code: for data of few byte values, whose rows are
// short, one look-up without a search.
class Rows {
  public:
    // `ranks`: of the byte values that occur, in any order, below `width`.
    Rows(const std::array<std::uint8_t, 256>& ranks, std::size_t width)
        : ranks_(ranks),
          width_(width),
          memory_(take_buffer(sizeof(std::uint16_t) * std::size_t{kFull} * width)),
          codes_(reinterpret_cast<std::uint16_t*>(memory_.data())) {
        clear();
    }
    Rows(const Rows&) = delete;
    Rows& operator=(const Rows&) = delete;
    ~Rows() { give_buffer(std::move(memory_)); }

    void clear() noexcept { std::fill_n(codes_, std::size_t{kLeaves} * width_, std::uint16_t{0}); }

    std::uint32_t find_or_add(std::uint32_t prefix, std::uint8_t byte, std::uint32_t fresh) noexcept {
        std::uint16_t& code = codes_[std::size_t{prefix} * width_ + ranks_[byte]];
        if (code != 0) return code;
        if (fresh < kFull) {
            code = static_cast<std::uint16_t>(fresh);
            std::fill_n(&codes_[std::size_t{fresh} * width_], width_, std::uint16_t{0});
        }
        return kFull;
    }

  private:
    std::array<std::uint8_t, 256> ranks_;
    std::size_t width_;
    // 0: none, for no string has the code of a single byte. Rows are cleared when their code is made.
    Bytes memory_;
    std::uint16_t* codes_;
};

template <typename Codes>
void encode_with(Codes& codes, ByteView data, Bytes& out) {
    BitWriter bits(out);
    std::uint32_t known = kLeaves;
    std::uint32_t code = data[0];
    for (const std::uint8_t byte : data.subspan(1)) {
        const std::uint32_t longer = codes.find_or_add(code, byte, known);
        if (longer != kFull) {
            code = longer;
            continue;
        }
        bits.write(code, width_of(known));
        code = byte;
        if (++known > kFull) {
            interruption_point();
            codes.clear();
            known = kLeaves;
        }
    }
    bits.write(code, width_of(known));
    bits.finish();
}

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
    std::array<std::uint8_t, 256> ranks{};
    std::array<bool, 256> occurs{};
    for (const std::uint8_t byte : data) occurs[byte] = true;
    std::size_t used = 0;
    for (std::size_t byte = 0; byte < 256; ++byte) {
        ranks[byte] = static_cast<std::uint8_t>(used);
        used += occurs[byte];
    }
    if (data.size() >= kRowsFrom && used <= kMostRanks) {
        Rows rows(ranks, used);
        return encode_with(rows, data, out);
    }
    Dictionary dictionary;
    encode_with(dictionary, data, out);
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
