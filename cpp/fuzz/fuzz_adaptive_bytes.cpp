// Adaptive byte coder: arbitrary streams, round trips, damaged streams.
#include "entropy/adaptive_bytes.hpp"
#include "input.hpp"

using namespace nncodec;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    fuzz::Input input(data, size);
    const std::uint8_t mode = input.take();
    if (mode % 2 == 0) {
        Bytes out(input.between(0, 2000));
        fuzz::accepts([&] { adaptive::decode_bytes(input.rest(), out); });
        return 0;
    }
    const ByteView values = input.bytes(input.between(0, 2000));
    Bytes stream;
    adaptive::encode_bytes(values, stream);
    Bytes decoded(values.size());
    adaptive::decode_bytes(stream, decoded);
    FUZZ_CHECK(std::equal(values.begin(), values.end(), decoded.begin()));

    fuzz::damage(stream, input);
    fuzz::accepts([&] { adaptive::decode_bytes(stream, decoded); });
    return 0;
}
