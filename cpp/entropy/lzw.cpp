#include "entropy/lzw.hpp"

#include <algorithm>
#include <bit>
#include <vector>

#include "base/bits.hpp"

namespace nncodec::lzw {
namespace {

constexpr std::uint32_t kLeaves = 256;
constexpr std::uint32_t kFull = 1U << kMaxCodeBits;

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

}  // namespace

void encode(ByteView data, Bytes& out) {
    if (data.empty()) return;
    Dictionary dictionary;
    BitWriter bits(out);
    std::uint32_t known = kLeaves;
    std::uint32_t code = data[0];
    for (const std::uint8_t byte : data.subspan(1)) {
        const std::uint32_t longer = dictionary.find_or_add(code, byte, known);
        if (longer != kFull) {
            code = longer;
            continue;
        }
        bits.write(code, width_of(known));
        code = byte;
        if (++known > kFull) {
            dictionary.clear();
            known = kLeaves;
        }
    }
    bits.write(code, width_of(known));
    bits.finish();
}

void decode(ByteView stream, std::span<std::uint8_t> out) {
    // A string of the dictionary is where it was first put out: the string of a code and the byte after it.
    struct Piece {
        std::size_t at = 0;
        std::size_t length = 0;
    };
    std::vector<Piece> pieces;
    BitReader bits(stream);
    std::uint32_t known = kLeaves;
    for (std::size_t at = 0; at < out.size();) {
        const std::uint32_t code = bits.read(width_of(known));
        if (code >= known) throw DecodeError("LZW code " + std::to_string(code) + " does not exist");
        std::size_t length = 1;
        if (code < kLeaves) {
            out[at] = static_cast<std::uint8_t>(code);
        } else {
            const Piece piece = pieces[code - kLeaves];
            length = piece.length;
            if (length > out.size() - at) throw DecodeError("LZW: more bytes than there should be");
            // One after the other: the last byte of the newest string may be the first one put out here.
            for (std::size_t i = 0; i < length; ++i) out[at + i] = out[piece.at + i];
        }
        if (++known > kFull) {
            pieces.clear();
            known = kLeaves;
        } else {
            pieces.push_back({at, length + 1});
        }
        at += length;
    }
    check(bits.finish(), "LZW");
}

}  // namespace nncodec::lzw
