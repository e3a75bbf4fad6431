#include "entropy/adaptive_bytes.hpp"

#include <memory>
#include <vector>

#include "entropy/models.hpp"

namespace nncodec::adaptive {
namespace {

using namespace range;

// A byte is eight binary decisions, most significant first. Each is predicted by what followed the same
// prefix anywhere (order 0) and after the same previous byte (order 1).
class ByteModel {
  public:
    ByteModel() : order1_(std::size_t{256} * 256), mixers_(8 * kConfidences) {}

    template <typename Coder>
    std::uint8_t code(Coder& coder, std::uint8_t value) {
        BitModel* const order1 = &order1_[std::size_t{256} * previous_];
        std::uint32_t node = 1;
        for (unsigned depth = 0; depth < 8; ++depth) {
            BitModel& a = order0_[node];
            BitModel& b = order1[node];
            auto& mixer = mixers_[depth * kConfidences + std::min(b.count(), kConfidences - 1)];
            const std::array<std::int32_t, 2> stretched{stretch(a.p()), stretch(b.p())};
            const std::uint32_t p = mixer.p(stretched);
            const bool bit = coder.code((value >> (7 - depth)) & 1, p);
            mixer.update(stretched, p, bit, 8);
            a.update(bit);
            b.update(bit);
            node = 2 * node + bit;
        }
        previous_ = static_cast<std::uint8_t>(node);
        return previous_;
    }

  private:
    static constexpr unsigned kConfidences = 8;

    std::array<BitModel, 256> order0_{};
    std::vector<BitModel> order1_;
    std::vector<Mixer<2>> mixers_;
    std::uint8_t previous_ = 0;
};

}  // namespace

void encode_bytes(std::span<const std::uint8_t> values, Bytes& out) {
    if (values.empty()) return;
    BinaryEncoder coder(out);
    ByteModel model;
    for (const std::uint8_t value : values) model.code(coder, value);
    coder.finish();
}

void decode_bytes(ByteView stream, std::span<std::uint8_t> out) {
    BinaryDecoder coder(stream);
    if (!out.empty()) {
        ByteModel model;
        for (std::uint8_t& value : out) {
            value = model.code(coder, 0);
            if (coder.status() != Status::ok) break;
        }
    }
    check(out.empty() && !stream.empty() ? Status::corrupt : coder.finish(), "adaptive byte stream");
}

}  // namespace nncodec::adaptive
