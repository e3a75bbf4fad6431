// Bit packing: arbitrary bytes, round trips, and the two readers against each other.
#include "base/bits.hpp"
#include "input.hpp"

using namespace nncodec;

namespace {

template <typename Code>
void try_codes(fuzz::Input input, unsigned bits) {
    std::vector<Code> codes(input.between(0, 300));
    for (Code& code : codes) code = static_cast<Code>(input.take<Code>() & ((std::uint64_t{1} << bits) - 1));
    Bytes packed(packed_size(codes.size(), bits));
    bitpack(codes, bits, packed);

    Bytes written;
    BitWriter writer(written);
    for (const Code code : codes) writer.write(code, bits);
    writer.finish();
    FUZZ_CHECK(written == packed);

    std::vector<Code> unpacked(codes.size());
    FUZZ_CHECK(bitunpack(packed, bits, unpacked) == Status::ok);
    FUZZ_CHECK(unpacked == codes);

    fuzz::damage(packed, input);
    const Status status = bitunpack(packed, bits, unpacked);
    BitReader reader(packed);
    std::vector<Code> read(codes.size());
    for (Code& code : read) code = static_cast<Code>(reader.read(bits));
    FUZZ_CHECK(reader.finish() == status);
    FUZZ_CHECK(status != Status::ok || read == unpacked);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    fuzz::Input input(data, size);
    const std::uint8_t mode = input.take();
    if (mode % 2 == 0) {
        try_codes<std::uint16_t>(input, 1 + mode / 2 % 16);
    } else {
        try_codes<std::uint32_t>(input, 1 + mode / 2 % 32);
    }
    BitReader reader(input.rest());
    for (unsigned i = 0; i < 200; ++i) (void)reader.read((mode + i) % 33);
    (void)reader.finish();
    return 0;
}
