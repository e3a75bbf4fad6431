// Range coder and its models: a program of coding steps, taken from the input, runs forwards and backwards.
#include "entropy/models.hpp"
#include "input.hpp"

using namespace nncodec;

namespace {

// One instance per direction, so that encoder and decoder see the same models in the same states.
template <typename Coder>
struct Program {
    Coder& coder;
    range::BitModel bit{};
    range::TwoRateModel two_rates{};
    range::BitTree<5> tree{};
    range::BitTree<3, range::TwoRateModel> small_tree{};
    range::ExpGolomb<> integer{};
    range::Mixer<2> mixer{};

    std::uint32_t step(std::uint8_t kind, std::uint32_t value) {
        switch (kind % 7) {
            case 0:
                return range::code_bit(coder, bit, value & 1);
            case 1:
                return range::code_bit(coder, two_rates, value & 1);
            case 2:
                return tree.code(coder, value % 32);
            case 3:
                return small_tree.code(coder, value % 8);
            case 4:
                return integer.code(coder, value == UINT32_MAX ? 0 : value);
            case 5:
                return coder.direct(value & ((1U << (kind % 17)) - 1), kind % 17);
            default: {
                const std::array<std::int32_t, 2> inputs{range::stretch(bit.p()),
                                                         range::stretch(two_rates.p())};
                const std::uint32_t p = mixer.p(inputs);
                const bool coded = coder.code(value & 1, p);
                mixer.update(inputs, p, coded, 14 + kind % 7);
                bit.update(coded);
                two_rates.update(coded);
                return coded;
            }
        }
    }
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    fuzz::Input input(data, size);
    const bool round_trip = input.take() % 2;
    const ByteView kinds = input.bytes(input.between(0, 500));
    Bytes stream;
    if (round_trip) {
        fuzz::Input values = input;
        range::BinaryEncoder encoder(stream);
        Program<range::BinaryEncoder> forward{encoder};
        std::vector<std::uint32_t> coded;
        for (const std::uint8_t kind : kinds)
            coded.push_back(forward.step(kind, values.take<std::uint32_t>()));
        encoder.finish();

        range::BinaryDecoder decoder(stream);
        Program<range::BinaryDecoder> backward{decoder};
        for (std::size_t i = 0; i < kinds.size(); ++i) FUZZ_CHECK(backward.step(kinds[i], 0) == coded[i]);
        FUZZ_CHECK(decoder.finish() == Status::ok);
        fuzz::damage(stream, values);
    } else {
        const ByteView rest = input.rest();
        stream.assign(rest.begin(), rest.end());
    }
    range::BinaryDecoder decoder(stream);
    Program<range::BinaryDecoder> backward{decoder};
    for (const std::uint8_t kind : kinds) backward.step(kind, 0);
    (void)decoder.finish();
    return 0;
}
