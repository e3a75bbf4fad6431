#include "entropy/adaptive_bytes.hpp"

#include <algorithm>
#include <string>
#include <vector>

#include "entropy/models.hpp"

namespace nncodec::adaptive {
namespace {

using range::BitModel;
using range::stretch;

constexpr unsigned kMaxStride = 8;
constexpr unsigned kLimit = 254;      // of the models of bits: they average over as much as they can
constexpr unsigned kConfidences = 8;  // the mixer's weights depend on how much the second context has seen
constexpr std::uint8_t kMaxHits = 6;

using Mixer = range::Mixer<4>;
constexpr Mixer::Inputs kFirstWeights{Mixer::kOne * 3 / 8, Mixer::kOne / 4, Mixer::kOne / 4, Mixer::kOne / 4};

// The models of half a byte, one per prefix of it: a cache line.
struct alignas(64) Nibble {
    BitModel models[16];
};

// For each context the models of a byte. They come into being half by half, when first asked for, so that ten
// values do not pay for clearing a megabyte.
class ContextModels {
  public:
    explicit ContextModels(std::size_t contexts) : row_of_(contexts) {}

    // The models of a byte's upper half.
    BitModel* upper(std::size_t context) {
        row_ = row_of_[context];
        if (row_ == 0) {
            row_ = row_of_[context] = static_cast<std::uint32_t>(lowers_.size()) + 1;
            lowers_.emplace_back();
            uppers_.emplace_back();
        }
        --row_;
        return uppers_[row_].models;
    }

    // Those of its lower half, in the context of the last call of upper(), once the upper half is known.
    BitModel* lower(std::uint32_t half) {
        std::uint32_t& line = lowers_[row_][half];
        if (line == 0) {
            line = static_cast<std::uint32_t>(lines_.size()) + 1;
            lines_.emplace_back();
        }
        return lines_[line - 1].models;
    }

  private:
    std::uint32_t row_ = 0;
    std::vector<std::uint32_t> row_of_;  // 0: none yet; otherwise one more than the place
    std::vector<Nibble> uppers_;
    std::vector<std::array<std::uint32_t, 16>> lowers_;  // places in lines_, in the same way
    std::vector<Nibble> lines_;
};

// Whether the byte will be the one that a straight line through the last two elements predicts, for each
// plane and number of times in a row that it was.
class LineModel {
  public:
    void start(unsigned plane, std::uint32_t guess) noexcept {
        plane_ = plane;
        model_ = models_[plane][hits_[plane]];
        guess_ = guess;
        alive_ = true;
    }

    // Nothing to say once a bit of this byte was not as predicted.
    std::int32_t stretched() const noexcept {
        if (!alive_) return 0;
        const std::int32_t right = stretch(model_.p());
        return (guess_ >> 7) & 1 ? right : -right;
    }

    void update(bool bit) noexcept {
        if (!alive_) return;
        alive_ = bit == ((guess_ >> 7) & 1);
        model_.update(alive_, kLimit);
        guess_ <<= 1;
    }

    void finish() noexcept {
        std::uint8_t& hits = hits_[plane_];
        models_[plane_][hits] = model_;
        hits = alive_ ? std::min(static_cast<std::uint8_t>(hits + 1), kMaxHits) : std::uint8_t{0};
    }

  private:
    BitModel models_[kMaxStride][kMaxHits + 1];
    std::uint8_t hits_[kMaxStride] = {};
    BitModel model_;
    unsigned plane_ = 0;
    std::uint32_t guess_ = 0;
    bool alive_ = false;
};

class ElementModel {
  public:
    explicit ElementModel(unsigned stride)
        : stride_(stride),
          alone_(stride),
          after_last_(std::size_t{256} * stride),
          second_(std::size_t{256} * stride) {
        mixers_.fill(Mixer(kFirstWeights));
    }

    // One element of `stride` bytes, the most significant byte first.
    template <typename Coder>
    void code(Coder& coder, std::uint8_t* element) {
        const std::uint64_t guess = 2 * last_ - before_last_;
        std::uint64_t value = 0;
        for (unsigned plane = stride_; plane-- > 0;) {
            // What is known besides the last element's byte: the byte above, or with single bytes, the recent
            // level.
            const std::uint64_t second = stride_ > 1 ? value & 0xFF : (last_ + before_last_ + 1) / 2;
            line_.start(plane, (guess >> (8 * plane)) & 0xFF);
            element[plane] = code_byte(coder, element[plane], plane,
                                       256 * plane + ((last_ >> (8 * plane)) & 0xFF), 256 * plane + second);
            value = value << 8 | element[plane];
        }
        before_last_ = last_;
        last_ = value;
    }

  private:
    template <typename Coder>
    std::uint8_t code_byte(Coder& coder, unsigned value, std::size_t alone, std::size_t after_last,
                           std::size_t second) {
        const std::uint32_t upper = code_half(coder, value >> 4, alone_.upper(alone),
                                              after_last_.upper(after_last), second_.upper(second));
        const std::uint32_t lower =
            code_half(coder, value & 15, alone_.lower(upper), after_last_.lower(upper), second_.lower(upper));
        line_.finish();
        return static_cast<std::uint8_t>(upper << 4 | lower);
    }

    template <typename Coder>
    std::uint32_t code_half(Coder& coder, unsigned value, BitModel* alone, BitModel* after_last,
                            BitModel* second) {
        std::uint32_t node = 1;
        for (unsigned depth = 0; depth < 4; ++depth) {
            BitModel& a = alone[node];
            BitModel& b = after_last[node];
            BitModel& c = second[node];
            if (b.count() == 0) b.start(a);
            if (c.count() == 0) c.start(a);
            Mixer& mixer = mixers_[std::min(b.count(), kConfidences - 1)];
            const Mixer::Inputs inputs{stretch(a.p()), stretch(b.p()), stretch(c.p()), line_.stretched()};
            const std::uint32_t p = mixer.p(inputs);
            const bool bit = coder.code((value >> (3 - depth)) & 1, p);
            mixer.update(inputs, p, bit);
            a.update(bit, kLimit);
            b.update(bit, kLimit);
            c.update(bit, kLimit);
            line_.update(bit);
            node = 2 * node + bit;
        }
        return node & 15;
    }

    unsigned stride_;
    ContextModels alone_;
    ContextModels after_last_;
    ContextModels second_;
    LineModel line_;
    std::array<Mixer, kConfidences> mixers_;
    std::uint64_t last_ = 0;
    std::uint64_t before_last_ = 0;
};

void check_stride(std::size_t n, unsigned stride) {
    if (stride != 1 && stride != 2 && stride != 4 && stride != 8) {
        throw ArgumentError("stride must be 1, 2, 4 or 8, got " + std::to_string(stride));
    }
    if (n % stride != 0) {
        throw ArgumentError(std::to_string(n) + " bytes are no multiple of stride " + std::to_string(stride));
    }
}

}  // namespace

void encode_bytes(std::span<const std::uint8_t> values, Bytes& out, unsigned stride) {
    check_stride(values.size(), stride);
    if (values.empty()) return;
    range::BinaryEncoder coder(out);
    ElementModel model(stride);
    std::uint8_t element[kMaxStride];
    for (std::size_t i = 0; i < values.size(); i += stride) {
        std::copy_n(&values[i], stride, element);
        model.code(coder, element);
    }
    coder.finish();
}

void decode_bytes(ByteView stream, std::span<std::uint8_t> out, unsigned stride) {
    check_stride(out.size(), stride);
    if (out.empty()) {
        check(stream.empty() ? Status::ok : Status::corrupt, "adaptive byte stream of no values");
        return;
    }
    range::BinaryDecoder coder(stream);
    ElementModel model(stride);
    for (std::size_t i = 0; i < out.size() && coder.status() == Status::ok; i += stride)
        model.code(coder, &out[i]);
    check(coder.finish(), "adaptive byte stream");
}

}  // namespace nncodec::adaptive
