// What the cases of digest.cpp are made of: inputs by formula, and the report that compares instruction sets.
#pragma once

#include <cstdio>
#include <cstring>
#include <functional>
#include <span>
#include <string>

#include "base/bytes.hpp"
#include "base/crc32c.hpp"
#include "base/dispatch.hpp"
#include "base/dtype.hpp"
#include "quantize/float_source.hpp"

namespace nncodec::digest {

class Random {
  public:
    explicit Random(std::uint64_t seed) : state_(seed) {}
    std::uint32_t next() noexcept {
        state_ = state_ * 6364136223846793005U + 1442695040888963407U;
        return static_cast<std::uint32_t>(state_ >> 32);
    }
    // Nearly normal, of variance 1: the sum of twelve.
    double normal() noexcept {
        std::int64_t sum = 0;
        for (int i = 0; i < 12; ++i) sum += static_cast<std::int32_t>(next());
        return static_cast<double>(sum) * 0x1p-32;
    }

  private:
    std::uint64_t state_;
};

// What one case made, for comparison and for the digest.
class Result {
  public:
    void add(ByteView bytes) {
        const std::uint64_t size = bytes.size();
        const auto* const at = reinterpret_cast<const std::uint8_t*>(&size);
        bytes_.insert(bytes_.end(), at, at + sizeof size);
        bytes_.insert(bytes_.end(), bytes.begin(), bytes.end());
    }
    template <typename T>
    void add_values(std::span<const T> values) {
        add({reinterpret_cast<const std::uint8_t*>(values.data()), values.size_bytes()});
    }
    const Bytes& bytes() const noexcept { return bytes_; }

  private:
    Bytes bytes_;
};

class Report {
  public:
    // `make` returns whether what it decoded was what it had encoded.
    void line(const std::string& name, const std::function<bool(Result&)>& make) {
        Result truth;
        for (const Isa isa : {Isa::scalar, Isa::neon, Isa::avx2, Isa::avx512}) {
            if (!isa_supported(isa)) continue;
            force_isa(isa_name(isa));
            Result result;
            const bool round_trip = make(result);
            if (isa == Isa::scalar) truth = result;
            if (round_trip && result.bytes() == truth.bytes()) continue;
            std::fprintf(stderr, "%s: %s %s\n", name.c_str(), std::string(isa_name(isa)).c_str(),
                         round_trip ? "differs from scalar" : "does not decode what it encoded");
            failed_ = true;
        }
        std::printf("%-44s %9zu bytes  %08x\n", name.c_str(), truth.bytes().size(), crc32c(truth.bytes()));
    }
    bool failed() const noexcept { return failed_; }

  private:
    bool failed_ = false;
};

inline Bytes noise(std::size_t n, std::uint64_t seed) {
    Random random(seed);
    Bytes bytes(n);
    for (std::uint8_t& b : bytes) b = static_cast<std::uint8_t>(random.next() >> 24);
    return bytes;
}

// Floats whose scale changes from row to row, with zeros and, if asked for, patterns that are not finite.
inline Bytes weights(DType dtype, std::size_t n, std::size_t columns, bool special, std::uint64_t seed) {
    Random random(seed);
    const std::size_t element = number_format(static_cast<std::uint8_t>(dtype)).bytes;
    Bytes bytes(n * element);
    for (std::size_t i = 0; i < n; ++i) {
        const double scale = 0x1p-6 * static_cast<double>(1 + i / columns % 7);
        std::uint64_t bits = round_to(dtype, scale * random.normal());
        if (i % 97 == 0) bits = 0;
        if (special && i % 1009 == 0) bits = ~std::uint64_t{i};
        std::memcpy(bytes.data() + i * element, &bits, element);
    }
    return bytes;
}

// In digest_trellis.cpp.
void trellis_codec_cases(Report& report);
void trellis_layouts(Report& report);

}  // namespace nncodec::digest
