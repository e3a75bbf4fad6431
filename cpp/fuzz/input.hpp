// Turns a fuzzer's bytes into arguments: numbers, arrays, and damage to a valid stream.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstdio>
#include <cstdlib>

#include "base/bytes.hpp"
#include "base/error.hpp"

namespace nncodec::fuzz {

// Unlike assert, never compiled out.
#define FUZZ_CHECK(condition)                                                            \
    do {                                                                                 \
        if (!(condition)) {                                                              \
            std::fprintf(stderr, "%s:%d: failed: %s\n", __FILE__, __LINE__, #condition); \
            std::terminate();                                                            \
        }                                                                                \
    } while (false)

class Input {
  public:
    Input(const std::uint8_t* data, std::size_t size) noexcept : data_(data, size) {}

    std::size_t left() const noexcept { return data_.size(); }

    // Zero once the input is used up.
    template <typename T = std::uint8_t>
    T take() noexcept {
        T value = 0;
        const std::size_t n = std::min(sizeof value, data_.size());
        if (n != 0) std::memcpy(&value, data_.data(), n);  // an empty span may have no address
        data_ = data_.subspan(n);
        return value;
    }

    // In [low, high].
    std::size_t between(std::size_t low, std::size_t high) noexcept {
        return low + static_cast<std::size_t>(take<std::uint32_t>()) % (high - low + 1);
    }

    ByteView bytes(std::size_t n) noexcept {
        const ByteView view = data_.first(std::min(n, data_.size()));
        data_ = data_.subspan(view.size());
        return view;
    }

    ByteView rest() noexcept { return bytes(data_.size()); }

  private:
    ByteView data_;
};

// Damages a valid stream as the input says: flips, cuts, insertions, deletions.
inline void damage(Bytes& stream, Input& input) {
    for (unsigned edits = input.take() % 4U + 1; edits-- > 0;) {
        const std::size_t at = input.between(0, stream.size());
        const auto here = stream.begin() + static_cast<std::ptrdiff_t>(at);
        switch (input.take() % 5U) {
            case 0:
                stream.resize(at);
                break;
            case 1:
                stream.insert(here, input.take());
                break;
            case 2:
                if (here != stream.end()) stream.erase(here);
                break;
            case 3:
                if (here != stream.end()) *here = input.take();
                break;
            default:
                if (here != stream.end()) *here ^= static_cast<std::uint8_t>(1U << (input.take() % 8U));
        }
    }
}

// Whether `decode` accepts its input; DecodeError is the only way to refuse.
template <typename Decode>
bool accepts(Decode&& decode) {
    try {
        decode();
        return true;
    } catch (const DecodeError&) {
        return false;
    }
}

// NNCODEC_FUZZ_MUTANTS, if that is set. Long runs take more than the usual number: making a whole stream
// costs as much as some hundred damaged ones.
inline unsigned mutants_per_stream(unsigned usual) {
    const char* const set = std::getenv("NNCODEC_FUZZ_MUTANTS");
    return set != nullptr ? static_cast<unsigned>(std::strtoul(set, nullptr, 10)) : usual;
}

// Decoders see far more damaged streams than an encoder can make whole ones, so each valid stream is damaged
// many times. `decode` is called after each damage, which is undone again; it happens to either stream, as
// the input's seed says. How many mutants that were is printed at the end of the run.
template <typename Decode>
void decode_mutants(Bytes& model, Bytes& payload, Input& input, unsigned times, Decode&& decode) {
    static std::uint64_t mutants = 0;
    static const int announced = std::atexit(
        [] { std::fprintf(stderr, "%llu mutants decoded\n", static_cast<unsigned long long>(mutants)); });
    (void)announced;
    std::uint64_t state = input.take<std::uint64_t>() | 1;
    for (unsigned i = mutants_per_stream(times); i > 0; --i) {
        std::array<std::uint8_t, 32> script{};
        for (std::uint8_t& byte : script) {
            state = state * 6364136223846793005U + 1442695040888963407U;
            byte = static_cast<std::uint8_t>(state >> 56);
        }
        Input edits(script.data(), script.size());
        Bytes& target = model.empty() || edits.take() % 2 == 0 ? payload : model;
        const Bytes whole = target;
        damage(target, edits);
        ++mutants;
        decode();
        target = whole;
    }
}

}  // namespace nncodec::fuzz
