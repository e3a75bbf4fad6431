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

// For each context 256 models, one per prefix of a byte. They come into being when first asked for, so that
// ten values do not pay for clearing a megabyte.
class ContextModels {
  public:
    explicit ContextModels(std::size_t contexts) : row_of_(contexts, kNone) {
        models_.reserve(256 * std::min<std::size_t>(contexts, 64));
    }

    BitModel* operator[](std::size_t context) {
        std::uint32_t& row = row_of_[context];
        if (row == kNone) {
            row = static_cast<std::uint32_t>(models_.size() / 256);
            models_.resize(models_.size() + 256);
        }
        return &models_[std::size_t{256} * row];
    }

  private:
    static constexpr std::uint32_t kNone = UINT32_MAX;
    std::vector<std::uint32_t> row_of_;
    std::vector<BitModel> models_;
};

// Whether the byte will be the one that a straight line through the last two elements predicts, for each
// plane and number of times in a row that it was.
class LineModel {
  public:
    void start(unsigned plane, std::uint32_t guess) noexcept {
        plane_ = plane;
        guess_ = guess;
        alive_ = true;
    }

    // Nothing to say once a bit of this byte was not as predicted.
    std::int32_t stretched(unsigned depth) const noexcept {
        if (!alive_) return 0;
        const std::int32_t right = stretch(models_[plane_][hits_[plane_]].p());
        return guessed_bit(depth) ? right : -right;
    }

    void update(unsigned depth, bool bit) noexcept {
        if (!alive_) return;
        alive_ = bit == guessed_bit(depth);
        models_[plane_][hits_[plane_]].update(alive_, kLimit);
    }

    void finish() noexcept {
        std::uint8_t& hits = hits_[plane_];
        hits = alive_ ? std::min(static_cast<std::uint8_t>(hits + 1), kMaxHits) : std::uint8_t{0};
    }

  private:
    bool guessed_bit(unsigned depth) const noexcept { return (guess_ >> (7 - depth)) & 1; }

    BitModel models_[kMaxStride][kMaxHits + 1];
    std::uint8_t hits_[kMaxStride] = {};
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
            element[plane] = code_byte(coder, element[plane], alone_[plane],
                                       after_last_[256 * plane + ((last_ >> (8 * plane)) & 0xFF)],
                                       second_[256 * plane + second]);
            value = value << 8 | element[plane];
        }
        before_last_ = last_;
        last_ = value;
    }

  private:
    template <typename Coder>
    std::uint8_t code_byte(Coder& coder, unsigned value, BitModel* alone, BitModel* after_last,
                           BitModel* second) {
        std::uint32_t node = 1;
        for (unsigned depth = 0; depth < 8; ++depth) {
            BitModel& a = alone[node];
            BitModel& b = after_last[node];
            BitModel& c = second[node];
            if (b.count() == 0) b.start(a);
            if (c.count() == 0) c.start(a);
            Mixer& mixer = mixers_[std::min(b.count(), kConfidences - 1)];
            const Mixer::Inputs inputs{stretch(a.p()), stretch(b.p()), stretch(c.p()),
                                       line_.stretched(depth)};
            const std::uint32_t p = mixer.p(inputs);
            const bool bit = coder.code((value >> (7 - depth)) & 1, p);
            mixer.update(inputs, p, bit);
            a.update(bit, kLimit);
            b.update(bit, kLimit);
            c.update(bit, kLimit);
            line_.update(depth, bit);
            node = 2 * node + bit;
        }
        line_.finish();
        return static_cast<std::uint8_t>(node);
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
