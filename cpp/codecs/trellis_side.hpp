// The coder of a trellis record's side information: small integers, each with adaptive models of its kind.
// Bytes: docs/format.md#side-information-of-a-trellis-record
#pragma once

#include <array>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "base/bytes.hpp"
#include "base/error.hpp"
#include "entropy/models.hpp"

namespace nncodec::trellis_codec {

// What a number is: each kind has models of its own.
enum class Field : std::uint8_t {
    head,
    split,
    offset,
    unit,
    step,
    count,
    bound,
    scale,
    shape,
    radius,
    centroid,
    layout,
    fields
};
// Lists of numbers: scales of rows, columns, positions; steps of rows, columns.
inline constexpr unsigned kRowStepsAxis = 3;
inline constexpr unsigned kColumnStepsAxis = 4;
inline constexpr unsigned kAxes = 5;
inline constexpr std::size_t kMostNumbers = std::size_t{1} << 26;  // of all lists of a record

constexpr std::uint32_t fold(int value) noexcept {
    return value < 0 ? 2 * static_cast<std::uint32_t>(-(value + 1)) + 1
                     : 2 * static_cast<std::uint32_t>(value);
}

constexpr std::int64_t unfold(std::uint32_t folded) noexcept {
    const auto half = static_cast<std::int64_t>(folded / 2);
    return folded % 2 == 0 ? half : -half - 1;
}

// Both directions: Coder is range::BinaryEncoder or range::BinaryDecoder.
template <typename Coder>
class SideModels {
  public:
    explicit SideModels(Coder& coder) : coder_(coder) {}

    std::uint32_t number(Field field, std::uint32_t value) {
        return numbers_[static_cast<std::size_t>(field)].code(coder_, value);
    }

    bool is_delta(unsigned axis, bool delta) { return range::code_bit(coder_, delta_[axis], delta); }

    // A folded number of a list; the context is how large the one before it was.
    std::uint32_t of_list(unsigned axis, bool delta, std::uint32_t value) {
        List& list = lists_[axis][delta ? 1 : 0];
        const std::uint32_t folded = list.models[list.context].code(coder_, value);
        list.context = folded < 2 ? 0 : folded < 6 ? 1 : 2;
        return folded;
    }
    void begin(unsigned axis, bool delta) { lists_[axis][delta ? 1 : 0].context = 1; }

  private:
    struct List {
        std::array<range::ExpGolomb<>, 3> models;
        unsigned context = 1;
    };
    Coder& coder_;
    std::array<range::ExpGolomb<>, static_cast<std::size_t>(Field::fields)> numbers_;
    std::array<range::BitModel, kAxes> delta_;
    std::array<std::array<List, 2>, kAxes> lists_;
};

class SideWriter {
  public:
    void number(Field field, std::size_t value) { models_->number(field, static_cast<std::uint32_t>(value)); }
    void signed_number(Field field, int value) { models_->number(field, fold(value)); }
    // values[i] / divisor, as they are or as differences, whichever is smaller.
    template <typename T>
    void list(unsigned axis, std::span<const T> values, int divisor) {
        std::int64_t plain = 0;
        std::int64_t differences = 0;
        int before = 0;
        for (const T v : values) {
            const int value = int{v} / divisor;
            plain += std::abs(value);
            differences += std::abs(value - before);
            before = value;
        }
        const bool delta = models_->is_delta(axis, differences < plain);
        models_->begin(axis, delta);
        before = 0;
        for (const T v : values) {
            const int value = int{v} / divisor;
            models_->of_list(axis, delta, fold(delta ? value - before : value));
            before = value;
        }
    }
    Bytes finish() {
        coder_.finish();
        return std::move(out_);
    }

  private:
    Bytes out_;
    range::BinaryEncoder coder_{out_};
    std::unique_ptr<SideModels<range::BinaryEncoder>> models_ =
        std::make_unique<SideModels<range::BinaryEncoder>>(coder_);
};

// Untrusted: throws DecodeError.
class SideReader {
  public:
    explicit SideReader(ByteView stream) : coder_(stream) {}

    [[noreturn]] static void fail(const char* field, const std::string& why) {
        throw DecodeError(std::string(field) + " " + why);
    }
    std::uint32_t number(Field field, std::uint32_t most, const char* name) {
        const std::uint32_t value = models_->number(field, 0);
        if (value > most) fail(name, "is above " + std::to_string(most));
        return value;
    }
    int signed_number(Field field, int most, const char* name) {
        const std::int64_t value = unfold(models_->number(field, 0));
        if (value < -most || value > most) fail(name, "is beyond " + std::to_string(most));
        return static_cast<int>(value);
    }
    // `most`: of a number, before it is multiplied.
    template <typename T>
    void list(unsigned axis, std::size_t count, int most, int factor, const char* name, std::vector<T>& out) {
        if (count > kMostNumbers || (numbers_ += count) > kMostNumbers) fail(name, "are more than 2^26");
        const bool delta = models_->is_delta(axis, false);
        models_->begin(axis, delta);
        std::int64_t before = 0;
        for (std::size_t i = 0; i < count; ++i) {
            if (i % 1024 == 0) check(coder_.status(), "side information");
            const std::int64_t value = unfold(models_->of_list(axis, delta, 0)) + (delta ? before : 0);
            if (value < -most || value > most) fail(name, "are beyond " + std::to_string(most));
            out.push_back(static_cast<T>(value * factor));
            before = value;
        }
    }
    void finish() { check(coder_.finish(), "side information"); }

  private:
    range::BinaryDecoder coder_;
    std::size_t numbers_ = 0;
    std::unique_ptr<SideModels<range::BinaryDecoder>> models_ =
        std::make_unique<SideModels<range::BinaryDecoder>>(coder_);
};

}  // namespace nncodec::trellis_codec
