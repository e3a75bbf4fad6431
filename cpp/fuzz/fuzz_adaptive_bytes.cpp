// Adaptive byte coder: arbitrary streams, round trips, damaged streams.
#include "entropy/adaptive_bytes.hpp"
#include "input.hpp"

using namespace nncodec;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    fuzz::Input input(data, size);
    const std::uint8_t mode = input.take();
    const unsigned stride = 1U << (mode / 2 % 4);
    if (mode % 2 == 0) {
        Bytes out(input.between(0, 2000) / stride * stride);
        fuzz::accepts([&] { adaptive::decode_bytes(input.rest(), out, stride); });
        return 0;
    }
    ByteView values = input.bytes(input.between(0, 2000));
    values = values.first(values.size() / stride * stride);
    Bytes stream;
    adaptive::encode_bytes(values, stream, stride);
    Bytes decoded(values.size());
    adaptive::decode_bytes(stream, decoded, stride);
    FUZZ_CHECK(std::equal(values.begin(), values.end(), decoded.begin()));

    fuzz::damage(stream, input);
    fuzz::accepts([&] { adaptive::decode_bytes(stream, decoded, stride); });
    return 0;
}
