#include "codecs/transform.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <functional>
#include <limits>
#include <numeric>

#include "base/parallel.hpp"
#include "entropy/bzip2.hpp"
#include "quantize/scales_tables.hpp"
#include "transform/hadamard.hpp"

namespace nncodec {
namespace blocks {

bool possible(const Transform& t) noexcept {
    switch (t.kind) {
        case Kind::identity:
            return t.height == 1 && t.width == 1;
        case Kind::cosine:
            return t.area() > 1 && dct::Transform::possible(t.height, t.width);
        case Kind::hadamard:
            return t.height == 1 && hadamard::possible(t.width);
    }
    return false;
}

void forward(const Transform& t, std::span<float> numbers) {
    if (t.kind == Kind::cosine) dct::Transform(t.height, t.width).forward(numbers, numbers);
    if (t.kind == Kind::hadamard) hadamard::transform(numbers, t.width);
}

void inverse(const Transform& t, std::span<float> coefficients) {
    if (t.kind == Kind::cosine) dct::Transform(t.height, t.width).inverse(coefficients, coefficients);
    if (t.kind == Kind::hadamard) hadamard::transform(coefficients, t.width);
}

}  // namespace blocks

namespace {

enum class Form : std::uint8_t { steered = 0, fixed = 1, clustered = 2, raw = 3 };

constexpr unsigned kMaxFixedBits = 8;

std::size_t element_count(const Shape& shape) noexcept {
    return std::accumulate(shape.begin(), shape.end(), std::size_t{1}, std::multiplies<>());
}

// How coefficients are seen for scale classes: each place in a row of its own scale, so that frequencies
// differ.
Shape coefficient_shape(const Shape& shape, std::size_t area) {
    const std::size_t n = element_count(shape);
    const std::size_t rows = shape.empty() ? 1 : shape[0];
    if (rows == 0 || n / rows % area != 0) return {n / area, area};
    return {rows, n / rows};
}

// `importance` with the mean of its block for each number.
std::vector<float> averaged(std::span<const float> importance, std::size_t area) {
    std::vector<float> means(importance.size());
    for (std::size_t at = 0; at < means.size(); at += area) {
        double sum = 0;
        for (std::size_t i = 0; i < area; ++i) sum += static_cast<double>(importance[at + i]);
        std::fill_n(means.begin() + static_cast<std::ptrdiff_t>(at), area,
                    static_cast<float>(sum / static_cast<double>(area)));
    }
    return means;
}

void write_transform(ByteWriter& out, Form form, const blocks::Transform& t) {
    out.u8(static_cast<std::uint8_t>(form));
    out.u8(static_cast<std::uint8_t>(t.kind));
    out.u8(t.height);
    out.u8(t.width);
}

}  // namespace

TransformPlan::TransformPlan(const TransformInput& input, std::span<const blocks::Transform> choices,
                             std::size_t threads) {
    const std::size_t n = element_count(input.shape);
    const FloatSource source(input.dtype, input.data);
    if (source.size() != n) throw ArgumentError(input.name + ": the shape does not hold the data");
    UniformOptions options;
    options.transform = TransformChoice::none;
    blocks::Transform best;
    for (const blocks::Transform& choice : choices) {
        if (!blocks::possible(choice) || (choice.area() > 1 && n % choice.area() != 0))
            throw ArgumentError(input.name + ": this transform does not fit the tensor");
        UniformInput inner;
        inner.step = input.step;
        inner.name = input.name;
        std::vector<float> coefficients;
        std::vector<float> importance;
        if (choice.area() == 1) {
            inner.dtype = input.dtype;
            inner.data = input.data;
            inner.shapes = {input.shape};
            inner.importance = input.importance;
        } else {
            if (float_statistics(source, {}, threads).nonfinite != 0)
                throw ArgumentError(input.name +
                                    " has NaN or infinite elements: codec 'lossless' can take it");
            std::vector<double> numbers(n);
            source.load(0, numbers);
            coefficients.assign(numbers.begin(), numbers.end());
            blocks::forward(choice, coefficients);
            importance = averaged(input.importance, choice.area());
            inner.dtype = DType::float32;
            inner.data = {reinterpret_cast<const std::uint8_t*>(coefficients.data()), 4 * n};
            inner.shapes = {coefficient_shape(input.shape, choice.area())};
            inner.importance = importance;
        }
        options.chunk_multiple = choice.area();
        auto plan = std::make_unique<UniformPlan>(inner, options, threads);
        if (plan_ != nullptr && plan->bits() >= plan_->bits()) continue;
        plan_ = std::move(plan);
        coefficients_ = std::move(coefficients);  // moving keeps what the plan points to
        importance_ = std::move(importance);
        best = choice;
    }
    if (plan_ == nullptr) throw ArgumentError(input.name + ": there must be a transform to choose");
    ByteWriter out;
    write_transform(out, Form::steered, best);
    out.bytes(plan_->model());
    model_ = out.take();
}

TransformDecoder::TransformDecoder(std::uint8_t dtype, std::span<const Shape> shapes,
                                   std::size_t chunk_elements, ByteView model)
    : dtype_(static_cast<DType>(dtype)), element_bytes_(number_format(dtype).bytes) {
    if (!is_quantisable(dtype_))
        throw DecodeError("element type " + std::to_string(dtype) + " is none of codec 'transform'");
    ByteReader in(model);
    const unsigned form = in.u8("form");
    if (form == static_cast<unsigned>(Form::clustered)) {
        inner_ = std::make_unique<CodebookDecoder>(dtype, shapes, chunk_elements, in.rest());
        return;
    }
    if (form == static_cast<unsigned>(Form::raw)) {
        in.expect_end("model");
        raw_ = true;
        return;
    }
    if (form > static_cast<unsigned>(Form::fixed))
        in.fail("form", "is " + std::to_string(form) + ", above 3");
    if (shapes.size() != 1) throw DecodeError("a transform belongs to a record of several tensors");
    transform_.kind = static_cast<blocks::Kind>(in.u8("transform"));
    transform_.height = in.u8("height of a block");
    transform_.width = in.u8("width of a block");
    if (!blocks::possible(transform_)) in.fail("transform", "is none that there is");
    const std::size_t n = element_count(shapes[0]);
    if (n % transform_.area() != 0 || chunk_elements % transform_.area() != 0)
        in.fail("block", "does not divide the tensor and its chunks");
    if (form == static_cast<unsigned>(Form::steered)) {
        const bool plain = transform_.area() == 1;
        const Shape shape = plain ? shapes[0] : coefficient_shape(shapes[0], transform_.area());
        inner_ = std::make_unique<UniformDecoder>(plain ? dtype : static_cast<std::uint8_t>(DType::float32),
                                                  std::span(&shape, 1), chunk_elements, in.rest());
        return;
    }
    step_ = in.le<float>("step");
    if (!(step_ >= 0) || !(step_ <= std::numeric_limits<float>::max()))
        in.fail("step", "is no finite number of at least 0");
    const unsigned coder = in.u8("coder");
    bzip2_ = coder == 255;
    if (bzip2_) {
        in.expect_end("model");
        return;
    }
    if (coder > 6) in.fail("coder", "is " + std::to_string(coder) + ", none of 0 to 6 and 255");
    lanes_ = 1U << coder;
    const scales::ClassTables tables = scales::read_class_tables(in, 1);
    in.expect_end("model");
    rans_.emplace(tables.per_context());
}

void TransformDecoder::decode(std::size_t chunk, ByteView payload, std::span<std::uint8_t> out) const {
    if (raw_) {
        if (payload.size() != out.size()) throw DecodeError("raw elements have the wrong length");
        std::copy(payload.begin(), payload.end(), out.begin());
        return;
    }
    if (inner_ == nullptr) return decode_fixed(payload, out);
    if (transform_.area() == 1) return inner_->decode(chunk, payload, out);
    thread_local std::vector<float> coefficients;
    coefficients.resize(out.size() / element_bytes_);
    inner_->decode(chunk, payload,
                   {reinterpret_cast<std::uint8_t*>(coefficients.data()), 4 * coefficients.size()});
    finish(coefficients, out);
}

// Coefficient-major: the first coefficient of all blocks of the chunk, then the second, ...
void TransformDecoder::decode_fixed(ByteView payload, std::span<std::uint8_t> out) const {
    const std::size_t n = out.size() / element_bytes_;
    const std::size_t area = transform_.area();
    if (n % area != 0) throw DecodeError("a chunk ends within a block");
    thread_local Bytes levels;
    levels.resize(n);
    if (bzip2_) {
        bzip2::decode(payload, levels);
    } else {
        rans_->decode(payload, rans::Layout{n, std::max<std::size_t>(n, 1), {}, {}}, lanes_, levels);
    }
    thread_local std::vector<float> coefficients;
    coefficients.resize(n);
    const std::size_t blocks = n / area;
    for (std::size_t k = 0; k < area; ++k) {
        for (std::size_t b = 0; b < blocks; ++b) {
            const auto level = static_cast<int>(levels[k * blocks + b]) - 128;
            coefficients[b * area + k] = static_cast<float>(level) * step_;
        }
    }
    finish(coefficients, out);
}

void TransformDecoder::finish(std::span<float> coefficients, std::span<std::uint8_t> out) const {
    constexpr float kLargest = std::numeric_limits<float>::max();
    blocks::inverse(transform_, coefficients);
    for (float& x : coefficients) {  // what is not a number becomes the largest one
        x = x < kLargest ? x : kLargest;
        x = x > -kLargest ? x : -kLargest;
    }
    if (dtype_ == DType::float32) {
        std::memcpy(out.data(), coefficients.data(), out.size());
        return;
    }
    for (std::size_t i = 0; i < coefficients.size(); ++i) {
        const std::uint64_t bits = round_to(dtype_, static_cast<double>(coefficients[i]));
        std::memcpy(out.data() + i * element_bytes_, &bits, element_bytes_);
    }
}

}  // namespace nncodec
