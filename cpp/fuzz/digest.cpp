// Prints CRC-32C digests of what every codec and kernel makes of inputs given by formulas. The lines must be
// the same on every machine; tests/cross/run.sh compares architectures. On the way every instruction set of
// this machine is compared with the scalar one: a difference is reported and ends the program with 1.
//
// Inputs are integers or exact in binary64, so that no machine's libm has a say in them.
#include "digest.hpp"

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "base/bits.hpp"
#include "base/crc32c.hpp"
#include "base/dispatch.hpp"
#include "codecs/codebook.hpp"
#include "codecs/lossless.hpp"
#include "codecs/lowrank.hpp"
#include "codecs/ternary.hpp"
#include "codecs/transform.hpp"
#include "codecs/uniform.hpp"
#include "codecs/universal.hpp"
#include "codecs/weightless.hpp"
#include "entropy/adaptive_bytes.hpp"
#include "entropy/rans.hpp"
#include "quantize/float_source.hpp"
#include "quantize/kmeans.hpp"
#include "quantize/trellis.hpp"
#include "transform/dct.hpp"
#include "transform/low_rank.hpp"

using namespace nncodec;
using namespace nncodec::digest;

namespace {

void checksums(Report& report) {
    const Bytes data = noise(20000, 1);
    report.line("crc32c", [&](Result& result) {
        for (const std::size_t size : {0, 1, 7, 8, 63, 3071, 3072, 6150, 20000}) {
            const std::uint32_t crc = crc32c(ByteView(data).first(size), static_cast<std::uint32_t>(size));
            result.add_values(std::span(&crc, 1));
        }
        return true;
    });
}

void bit_packing(Report& report) {
    for (const unsigned bits : {1U, 3U, 8U, 11U, 16U}) {
        report.line("bitpack bits=" + std::to_string(bits), [bits](Result& result) {
            Random random(bits);
            std::vector<std::uint16_t> codes(5000);
            for (auto& code : codes) code = static_cast<std::uint16_t>(random.next() >> (32 - bits));
            Bytes packed(packed_size(codes.size(), bits));
            bitpack(codes, bits, packed);
            result.add(packed);
            std::vector<std::uint16_t> back(codes.size());
            return bitunpack(packed, bits, back) == Status::ok && back == codes;
        });
    }
}

// `symbols`: of each table; 32 and 64 are the sizes that fit vector registers.
void rans_streams(Report& report) {
    constexpr std::size_t kRows = 9;
    constexpr std::size_t kColumns = 700;
    for (const unsigned symbols : {2U, 32U, 40U, 64U, 256U}) {
        for (const unsigned lanes : {1U, 16U, 32U, 64U}) {
            for (const unsigned prob_bits : {12U, 14U}) {
                for (const bool across : {false, true}) {
                    const std::string name =
                        "rans symbols=" + std::to_string(symbols) + " lanes=" + std::to_string(lanes) +
                        " bits=" + std::to_string(prob_bits) + (across ? " columns" : "");
                    report.line(name, [=](Result& result) {
                        Random random(symbols);
                        std::vector<rans::Frequencies> tables;
                        for (unsigned t = 0; t < 6; ++t) {
                            std::vector<std::uint64_t> counts(symbols);
                            for (std::uint64_t& count : counts) count = 1 + (random.next() >> (17 + 2 * t));
                            tables.push_back(rans::normalise(counts, prob_bits));
                        }
                        Bytes data(kRows * kColumns - 5);
                        for (std::uint8_t& s : data) {
                            // A product makes small symbols likely, so that words are read at uneven places.
                            const std::uint64_t product = std::uint64_t{random.next()} * random.next() >> 32;
                            s = static_cast<std::uint8_t>(product * symbols >> 32);
                        }
                        Bytes rows(kRows);
                        Bytes columns(across ? kColumns : 0);
                        for (std::size_t i = 0; i < rows.size(); ++i)
                            rows[i] = static_cast<std::uint8_t>(i % 4);
                        for (std::size_t i = 0; i < columns.size(); ++i)
                            columns[i] = static_cast<std::uint8_t>(i / 5 % 3);
                        const rans::Layout layout{data.size(), kColumns, rows, columns};
                        Bytes stream;
                        rans::Encoder(tables).encode(data, layout, lanes, stream);
                        result.add(stream);
                        Bytes back(data.size());
                        rans::Decoder(tables).decode(stream, layout, lanes, back);
                        return back == data;
                    });
                }
            }
        }
    }
}

void adaptive_streams(Report& report) {
    for (const unsigned stride : {1U, 4U}) {
        report.line("adaptive stride=" + std::to_string(stride), [stride](Result& result) {
            Bytes data = noise(4000, stride);
            for (std::uint8_t& b : data) b &= b >> 4 | 3;
            Bytes stream;
            adaptive::encode_bytes(data, stream, stride);
            result.add(stream);
            Bytes back(data.size());
            adaptive::decode_bytes(stream, back, stride);
            return back == data;
        });
    }
}

bool lossless_case(std::uint8_t dtype, std::size_t columns, const Bytes& data, Result& result) {
    const NumberFormat format = number_format(dtype);
    const lossless::Part part{dtype, columns, data};
    auto encodings = lossless::encode({&part, 1}, 1);
    lossless::Encoding& encoding = encodings.front();
    result.add(encoding.model());
    const std::size_t element = std::size_t{format.bytes} * format.numbers;
    const lossless::Decoder decoder(encoding.version(), dtype, data.size() / element,
                                    encoding.chunk_elements(), encoding.model());
    Bytes back(data.size());
    const std::size_t chunk_bytes = encoding.chunk_elements() * element;
    const std::vector<Bytes> chunks = encoding.encode(0, encoding.chunks(), 1);
    for (std::size_t c = 0; c < chunks.size(); ++c) {
        result.add(chunks[c]);
        const std::size_t at = c * chunk_bytes;
        decoder.decode(c, chunks[c], std::span(back).subspan(at, std::min(chunk_bytes, back.size() - at)));
    }
    return back == data;
}

void lossless_codec(Report& report) {
    constexpr std::size_t kColumns = 384;
    constexpr std::size_t kElements = 150 * kColumns;
    for (const DType dtype : {DType::float64, DType::float32, DType::float16, DType::bfloat16}) {
        const auto code = static_cast<std::uint8_t>(dtype);
        for (const bool special : {false, true}) {
            const std::string name = "lossless type=" + std::to_string(code) + (special ? " special" : "");
            const Bytes data = weights(dtype, kElements, kColumns, special, code);
            report.line(name, [&](Result& result) { return lossless_case(code, kColumns, data, result); });
        }
    }
    report.line("lossless type=2 pruned, few mantissa bits", [](Result& result) {
        Bytes data = weights(DType::float32, kElements, kColumns, false, 9);
        for (std::size_t i = 0; i < kElements; ++i) {
            std::uint32_t bits;
            std::memcpy(&bits, data.data() + 4 * i, 4);
            bits = i % 3 == 0 ? bits & 0xFFFFF000 : 0;
            std::memcpy(data.data() + 4 * i, &bits, 4);
        }
        return lossless_case(2, kColumns, data, result);
    });
    report.line("lossless type=2 palette", [](Result& result) {
        const Bytes values = weights(DType::float32, 16, 16, false, 5);
        const Bytes index = noise(kElements, 6);
        Bytes data(4 * kElements);
        for (std::size_t i = 0; i < kElements; ++i) {
            std::memcpy(data.data() + 4 * i, values.data() + 4 * (index[i] % 16), 4);
        }
        return lossless_case(2, kColumns, data, result);
    });
    for (const DType dtype :
         {DType::float8_e4m3fn, DType::int64, DType::int16, DType::uint8, DType::bool8, DType::complex64}) {
        const auto code = static_cast<std::uint8_t>(dtype);
        Bytes data = noise(48000, code);
        for (std::size_t i = 0; i < data.size(); ++i) data[i] &= i % 8 < 3 ? 0x1F : 0x01;
        report.line("lossless type=" + std::to_string(code),
                    [&](Result& result) { return lossless_case(code, 100, data, result); });
    }
}

void uniform_codec(Report& report) {
    const std::vector<Shape> shapes{{120, 96}, {40, 16, 3, 3}, {77}};
    constexpr std::size_t kElements = 120 * 96 + 40 * 16 * 9 + 77;
    std::vector<float> importance(kElements);
    Random random(3);
    for (float& w : importance) w = static_cast<float>(1 + (random.next() >> 24)) * 0x1p-7F;
    const struct {
        const char* name;
        UniformOptions options;
        bool weighted;
    } kinds[] = {{"default", {}, false},
                 {"weighted", {}, true},
                 {"rounding", {false, 0.0, false}, false},
                 {"no classes", {true, 0.8, false}, true}};
    for (const DType dtype : {DType::float64, DType::float32, DType::float16, DType::bfloat16}) {
        const auto code = static_cast<std::uint8_t>(dtype);
        const Bytes data = weights(dtype, kElements, 96, false, code);
        for (const auto& kind : kinds) {
            for (const double step : {0x1.8p-6, 0x1.2p-9}) {
                const std::string name = "uniform type=" + std::to_string(code) + " " + kind.name +
                                         (step > 0x1p-7 ? " coarse" : " fine");
                report.line(name, [&](Result& result) {
                    const std::span<const float> weight =
                        kind.weighted ? importance : std::span<const float>{};
                    const UniformPlan plan({dtype, data, shapes, step, weight, "digest"}, kind.options, 1);
                    result.add(plan.model());
                    const UniformDecoder decoder(code, shapes, plan.chunk_elements(), plan.model());
                    Bytes back(data.size());
                    const std::size_t chunk_bytes = plan.chunk_elements() * (data.size() / kElements);
                    for (std::size_t c = 0; c < plan.chunks(); ++c) {
                        const Bytes chunk = plan.encode_chunk(c);
                        result.add(chunk);
                        const std::size_t at = c * chunk_bytes;
                        decoder.decode(c, chunk,
                                       std::span(back).subspan(at, std::min(chunk_bytes, back.size() - at)));
                    }
                    result.add(back);
                    return true;
                });
            }
        }
    }
}

void universal_codec(Report& report) {
    constexpr std::size_t kElements = 64 * 3 * 3 * 7;
    std::vector<float> values(kElements);
    Random random(13);
    for (std::size_t i = 0; i < kElements; ++i) {
        const double x = random.normal();
        values[i] = random.next() % 3 == 0 ? 0.0F : static_cast<float>(x * static_cast<double>(1 + i % 7));
    }
    const ByteView data(reinterpret_cast<const std::uint8_t*>(values.data()), 4 * values.size());
    for (unsigned kind = 0; kind < lattice::kLattices; ++kind) {
        for (const bool dithered : {false, true}) {
            for (const bool table : {false, true}) {
                const std::string name = "universal lattice=" + std::to_string(kind) +
                                         (dithered ? " dither" : "") + (table ? " table" : "");
                report.line(name, [&, kind, dithered, table](Result& result) {
                    UniversalOptions options;
                    options.lattice = static_cast<lattice::Lattice>(kind);
                    options.dither = dithered ? DitherMode::on : DitherMode::off;
                    options.coder = table ? universal::Coder::lzw : universal::Coder::mixing;
                    options.dimension = table ? lattice::dimension(options.lattice) : 0;
                    options.centroid = dithered;
                    options.key = 99;
                    const UniversalPlan plan({DType::float32, data, {{64, 7, 3, 3}}, 0.75, {}, "digest"},
                                             options, 1);
                    result.add(plan.model());
                    const Bytes chunk = plan.encode_chunk(0);
                    result.add(chunk);
                    Bytes back(data.size());
                    UniversalDecoder(2, kElements, plan.chunk_elements(), plan.model())
                        .decode(0, chunk, back);
                    result.add(back);
                    return plan.chunks() == 1;
                });
            }
        }
    }
}

void weightless_codec(Report& report) {
    constexpr std::size_t kElements = 30'000;
    constexpr float kValues[] = {-0.75F, -0.5F, 0.25F, 0.5F, 1.25F};
    std::vector<float> tensor(kElements);
    Random random(13);
    for (float& x : tensor) x = random.next() >> 27 == 0 ? kValues[random.next() % 5] : 0.0F;
    const auto bytes_of = [](std::span<const float> numbers) {
        return ByteView(reinterpret_cast<const std::uint8_t*>(numbers.data()), numbers.size_bytes());
    };
    for (const weightless::Structure structure :
         {weightless::Structure::ribbon, weightless::Structure::bloomier}) {
        for (const unsigned mode : {0U, 1U, 2U, 3U}) {
            const bool packed = mode >= 2;
            if (packed && structure == weightless::Structure::ribbon) continue;
            weightless::Model model;
            model.structure = structure;
            model.exact = mode % 2 != 0;
            model.packed = packed;
            model.bits = 7;
            const std::string name = std::string("weightless ") +
                                     (structure == weightless::Structure::ribbon ? "ribbon" : "bloomier") +
                                     (model.exact ? " exact" : "") + (packed ? " packed" : "");
            report.line(name, [&](Result& result) {
                const WeightlessPlan plan(2, bytes_of(tensor), bytes_of(kValues), model, 0, "digest");
                const Bytes chunk = plan.encode_chunk(0);
                result.add(plan.model());
                result.add(chunk);
                std::vector<float> back(kElements);
                WeightlessDecoder(2, kElements, plan.chunk_elements(), plan.model())
                    .decode(0, chunk,
                            {reinterpret_cast<std::uint8_t*>(back.data()), kElements * sizeof(float)});
                result.add_values(std::span<const float>(back));
                for (std::size_t i = 0; i < kElements; ++i) {
                    if ((tensor[i] != 0 || model.exact) && back[i] != tensor[i]) return false;
                }
                return true;
            });
        }
    }
}

void trellis_quantiser(Report& report) {
    constexpr std::size_t kElements = 6011;
    std::vector<float> values(kElements);
    std::vector<std::uint8_t> contexts(kElements);
    Random random(11);
    for (std::size_t i = 0; i < kElements; ++i) {
        contexts[i] = static_cast<std::uint8_t>(i / 50 % 3);
        values[i] = static_cast<float>(random.normal() * static_cast<double>(1 + contexts[i]));
        // Values on or midway between points, so that paths of equal cost come up.
        if (i % 4 != 0) values[i] = 0.1875F * static_cast<float>(static_cast<int>(4 * values[i]));
    }
    const trellis::TableShape shape{3, 20};
    std::vector<std::uint16_t> costs(shape.size());
    for (std::size_t i = 0; i < costs.size(); ++i) {
        const auto level = static_cast<int>(i % shape.width()) - shape.radius;
        costs[i] = static_cast<std::uint16_t>(300 + 120 * std::abs(level));
    }
    for (const trellis::Alphabet alphabet : {trellis::Alphabet::plain, trellis::Alphabet::both_zero}) {
        for (const unsigned states : {8U, 64U, 256U}) {
            const std::string name = "trellis states=" + std::to_string(states) +
                                     (alphabet == trellis::Alphabet::plain ? " plain" : " both zero");
            report.line(name, [&, states, alphabet](Result& result) {
                const trellis::Options options{states, alphabet, 24227};
                constexpr float kStep = 0.375F;
                constexpr std::size_t kLanes = 40;
                std::vector<std::int16_t> levels(kElements);
                trellis::Quantiser(options, shape, costs).quantise(values, kStep, contexts, kLanes, levels);
                result.add_values(std::span<const std::int16_t>(levels));
                trellis::Statistics statistics;
                const trellis::Code& code = trellis::code_of(states);
                trellis::accumulate(values, levels, code, alphabet, kStep, contexts, kLanes, shape,
                                    statistics);
                const auto offsets = trellis::centroids(statistics, shape, 3);
                std::vector<float> back(kElements);
                trellis::dequantise(levels, code, {alphabet, shape.contexts, 3, offsets}, kStep, contexts,
                                    kLanes, back);
                result.add_values(std::span<const float>(back));
                return true;
            });
        }
    }
}

void cosine_transform(Report& report) {
    const struct {
        std::size_t height, width;
    } sides[] = {{3, 3}, {5, 5}, {11, 4}, {1, 64}};
    for (const auto& side : sides) {
        const std::string name = "cosine " + std::to_string(side.height) + "x" + std::to_string(side.width);
        report.line(name, [&side](Result& result) {
            Random random(12);
            std::vector<float> values(37 * side.height * side.width);
            for (float& value : values) value = static_cast<float>(random.normal());
            const dct::Transform transform(side.height, side.width);
            std::vector<float> coefficients(values.size());
            transform.forward(values, coefficients);
            result.add_values(std::span<const float>(coefficients));
            std::vector<float> back(values.size());
            transform.inverse(coefficients, back);
            result.add_values(std::span<const float>(back));
            return true;
        });
    }
}

void ternary_codec(Report& report) {
    constexpr std::size_t kElements = 20011;
    for (const DType dtype : {DType::float32, DType::float16, DType::bfloat16}) {
        const auto code = static_cast<std::uint8_t>(dtype);
        const Bytes data = weights(dtype, kElements, 77, false, 5);
        for (unsigned coding = 0; coding < 4; ++coding) {
            const ternary::Coding how{static_cast<ternary::Layout>(coding & 1),
                                      static_cast<ternary::Entropy>(coding >> 1)};
            const std::size_t block = coding == 1 ? 777 : 0;
            const std::string name =
                "ternary type " + std::to_string(code) + " coding " + std::to_string(coding);
            report.line(name, [&](Result& result) {
                const ternary::Encoder encoder({dtype, data, 1.25F, block, how, "digest"});
                const Bytes payload = encoder.encode_chunk(0);
                result.add(encoder.model());
                result.add(payload);
                Bytes back(data.size());
                ternary::Decoder(code, encoder.chunk_elements(), encoder.model()).decode(0, payload, back);
                result.add(back);
                std::vector<float> residual(kElements, 0.0078125F);
                for (int step = 0; step < 3; ++step) {
                    Bytes message;
                    if (!ternary::write_message(dtype, data.data(), residual.data(), kElements, 1.5F, how,
                                                message)) {
                        return false;
                    }
                    result.add(message);
                    ternary::read_message(message, dtype, kElements, 0.25F, true, back.data());
                }
                result.add_values(std::span<const float>(residual));
                result.add(back);
                return true;
            });
        }
    }
}

void codebook_codec(Report& report) {
    const std::vector<Shape> shapes{{60, 50}, {20, 8, 3, 3}};
    constexpr std::size_t kElements = 60 * 50 + 20 * 8 * 9;
    const Bytes data = weights(DType::float32, kElements, 50, false, 21);
    std::vector<float> values(kElements);
    std::memcpy(values.data(), data.data(), data.size());
    for (const std::size_t clusters : {std::size_t{7}, std::size_t{300}}) {
        report.line("codebook entries=" + std::to_string(clusters), [&](Result& result) {
            std::vector<double> sorted(values.begin(), values.end());
            std::sort(sorted.begin(), sorted.end());
            const kmeans::Codebook book = kmeans::optimal(sorted, {}, clusters);
            result.add_values(std::span<const double>(book.centroids));
            std::vector<float> centroids(book.centroids.begin(), book.centroids.end());
            std::vector<std::uint16_t> indices(kElements);
            kmeans::assign(values, centroids, indices, 1);
            CodebookInput input;
            input.dtype = DType::float32;
            input.data = data;
            input.shapes = shapes;
            input.entries = {reinterpret_cast<const std::uint8_t*>(centroids.data()), 4 * centroids.size()};
            input.indices = indices;
            const CodebookPlan plan(input, 1);
            result.add(plan.model());
            const Bytes chunk = plan.encode_chunk(0);
            result.add(chunk);
            Bytes back(data.size());
            CodebookDecoder(2, shapes, plan.chunk_elements(), plan.model()).decode(0, chunk, back);
            result.add(back);
            std::vector<float> book4(values.begin(), values.begin() + 24);
            std::vector<std::uint16_t> of_vectors(kElements / 4);
            const auto objectives = kmeans::lloyd(values, 4, {}, book4, 4, of_vectors, 1);
            result.add_values(std::span<const double>(objectives));
            return true;
        });
    }
}

void lowrank_codec(Report& report) {
    const Shape shape{60, 10, 3, 3};
    const auto [rows, columns] = lowrank::sides_of(shape);
    for (const DType dtype : {DType::float32, DType::bfloat16}) {
        const auto code = static_cast<std::uint8_t>(dtype);
        const Bytes data = weights(dtype, rows * columns, columns, false, 17);
        report.line("lowrank type=" + std::to_string(code), [&](Result& result) {
            std::vector<double> numbers(rows * columns);
            FloatSource(dtype, data).load(0, numbers);
            std::vector<double> values;
            const low_rank::Factors f = low_rank::decompose(numbers, rows, columns, {0, 0.8}, values);
            result.add_values(std::span<const double>(values));
            std::vector<float> both = f.left;
            both.insert(both.end(), f.right.begin(), f.right.end());
            const ByteView raw{reinterpret_cast<const std::uint8_t*>(both.data()), 4 * both.size()};
            const std::vector<Shape> inner{{rows, f.rank}, {f.rank, columns}};
            const UniformPlan plan({DType::float32, raw, inner, 0x1p-8, {}, "digest"}, {}, 1);
            const Bytes chunk = plan.encode_chunk(0);
            const ByteView view = chunk;
            const Bytes model =
                lowrank::write_model(2, f.scales, plan.chunk_elements(), plan.model(), std::span(&view, 1));
            result.add(model);
            Bytes back(data.size());
            LowRankDecoder(code, std::span(&shape, 1), rows * columns, model).decode(0, {}, back);
            result.add(back);
            return true;
        });
    }
}

void transform_codec(Report& report) {
    constexpr std::size_t kElements = 36 * 24 * 9;
    const Shape shape{36, 24, 3, 3};
    const struct {
        const char* name;
        blocks::Transform transform;
    } kinds[] = {{"identity", {}},
                 {"cosine 3x3", {blocks::Kind::cosine, 3, 3}},
                 {"cosine 1x24", {blocks::Kind::cosine, 1, 24}},
                 {"hadamard 1x8", {blocks::Kind::hadamard, 1, 8}}};
    for (const DType dtype : {DType::float64, DType::float32, DType::float16, DType::bfloat16}) {
        const auto code = static_cast<std::uint8_t>(dtype);
        const Bytes data = weights(dtype, kElements, 9, false, 31);
        for (const auto& kind : kinds) {
            const std::string name = "transform type=" + std::to_string(code) + " " + kind.name;
            report.line(name, [&](Result& result) {
                const TransformPlan plan({dtype, data, shape, 0x1.4p-7, {}, "digest"},
                                         std::span(&kind.transform, 1), 1);
                result.add(plan.model());
                const Bytes chunk = plan.encode_chunk(0);
                result.add(chunk);
                Bytes back(data.size());
                TransformDecoder(code, std::span(&shape, 1), plan.chunk_elements(), plan.model())
                    .decode(0, chunk, back);
                result.add(back);
                return plan.chunks() == 1;
            });
        }
    }
}

}  // namespace

int main() {
    Report report;
    checksums(report);
    bit_packing(report);
    rans_streams(report);
    adaptive_streams(report);
    lossless_codec(report);
    uniform_codec(report);
    trellis_codec_cases(report);
    trellis_layouts(report);
    trellis_quantiser(report);
    cosine_transform(report);
    universal_codec(report);
    weightless_codec(report);
    ternary_codec(report);
    codebook_codec(report);
    lowrank_codec(report);
    transform_codec(report);
    return report.failed() ? 1 : 0;
}
