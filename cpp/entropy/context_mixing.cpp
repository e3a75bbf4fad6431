#include "entropy/context_mixing.hpp"

#include <string>

#include "base/error.hpp"

namespace nncodec::mixing {
namespace {

void check_kinds(std::span<const std::uint8_t> kinds, std::size_t n) {
    if (!kinds.empty() && kinds.size() != n) throw ArgumentError("as many kinds as integers, please");
    for (const std::uint8_t kind : kinds) {
        if (kind >= kKinds) throw ArgumentError("kind " + std::to_string(kind) + " does not exist");
    }
}

}  // namespace

void encode_integers(std::span<const std::int32_t> values, std::span<const std::uint8_t> kinds,
                     const Layout& layout, Bytes& out) {
    check_kinds(kinds, values.size());
    range::BinaryEncoder coder(out);
    Integers model(coder, values.size(), layout);
    for (std::size_t i = 0; i < values.size(); ++i) {
        if (values[i] > kMaxMagnitude || values[i] < -kMaxMagnitude) {
            throw ArgumentError("integer " + std::to_string(values[i]) + " is out of range");
        }
        model.integer(i, kinds.empty() ? 0 : kinds[i], values[i]);
    }
    coder.finish();
}

void decode_integers(ByteView stream, std::span<const std::uint8_t> kinds, const Layout& layout,
                     std::span<std::int32_t> out) {
    check_kinds(kinds, out.size());
    range::BinaryDecoder coder(stream);
    Integers model(coder, out.size(), layout);
    for (std::size_t i = 0; i < out.size() && coder.status() == Status::ok; ++i) {
        out[i] = model.integer(i, kinds.empty() ? 0 : kinds[i], 0);
    }
    check(coder.finish(), "context mixing");
}

}  // namespace nncodec::mixing
