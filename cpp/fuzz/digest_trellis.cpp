// Records of codec trellis: types, options, layouts.
#include "codecs/trellis.hpp"
#include "digest.hpp"

namespace nncodec::digest {

void trellis_codec_cases(Report& report) {
    const std::vector<Shape> shapes{{120, 96}, {40, 16, 3, 3}, {77}};
    constexpr std::size_t kElements = 120 * 96 + 40 * 16 * 9 + 77;
    std::vector<float> importance(kElements);
    Random random(3);
    for (float& w : importance) w = static_cast<float>(1 + (random.next() >> 24)) * 0x1p-7F;
    TrellisOptions plain;
    plain.states = 8;
    TrellisOptions many;
    many.states = 64;
    TrellisOptions simple;
    simple.states = 16;
    simple.alphabet = TrellisAlphabet::both_zero;
    simple.transform = simple.classes = simple.centroids = false;
    const struct {
        const char* name;
        TrellisOptions options;
        bool weighted;
    } kinds[] = {{"8", plain, false}, {"64 weighted", many, true}, {"16 simple", simple, false}};
    for (const DType dtype : {DType::float64, DType::float32, DType::bfloat16}) {
        const auto code = static_cast<std::uint8_t>(dtype);
        const Bytes data = weights(dtype, kElements, 96, false, code);
        for (const auto& kind : kinds) {
            for (const double step : {0x1.8p-6, 0x1.2p-9}) {
                const std::string name = "trellis type=" + std::to_string(code) + " " + kind.name +
                                         (step > 0x1p-7 ? " coarse" : " fine");
                report.line(name, [&](Result& result) {
                    const std::span<const float> weight =
                        kind.weighted ? importance : std::span<const float>{};
                    const TrellisStudy study({dtype, data, shapes, weight, "digest"}, kind.options, step, 1);
                    const TrellisPlan plan(study, step, 1);
                    result.add(plan.model());
                    const TrellisDecoder decoder(code, shapes, plan.chunk_elements(), plan.model(),
                                                 plan.version());
                    Bytes back(data.size());
                    const Bytes chunk = plan.encode_chunk(0);
                    result.add(chunk);
                    decoder.decode(0, chunk, back);
                    result.add(back);
                    return true;
                });
            }
        }
    }
}

void trellis_layouts(Report& report) {
    // Kernels that are the same at all of their places: (output, place, place, input), and places first.
    const Shape shapes[2] = {{24, 3, 3, 20}, {3, 3, 20, 24}};
    const std::size_t rows[2] = {9 * 20, 9 * 20 * 24};
    const std::size_t channels[2] = {20, 20 * 24};
    TrellisOptions options;
    options.states = 8;
    for (std::size_t k = 0; k < 2; ++k) {
        report.line("trellis layout " + std::to_string(k + 1), [&](Result& result) {
            std::vector<float> of(20 * 24);
            Random random(17);
            for (float& x : of) x = static_cast<float>(random.next() >> 24) * 0x1p-8F - 0.5F;
            Bytes data(4 * 9 * of.size());
            for (std::size_t i = 0; i < 9 * of.size(); ++i)
                std::memcpy(&data[4 * i], &of[i / rows[k] * channels[k] + i % channels[k]], 4);
            const TrellisStudy study({DType::float32, data, {shapes[k]}, {}, "digest"}, options, 0x1p-6, 1);
            const TrellisPlan plan(study, 0x1p-6, 1);
            result.add(plan.model());
            result.add(plan.encode_chunk(0));
            TrellisDecoder(2, {&shapes[k], 1}, plan.chunk_elements(), plan.model(), 2)
                .decode(0, plan.encode_chunk(0), data);
            result.add(data);
            return plan.version() == 2;
        });
    }
}

}  // namespace nncodec::digest
