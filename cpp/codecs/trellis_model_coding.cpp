// The model's bytes.
#include <algorithm>
#include <bit>
#include <numeric>

#include "codecs/trellis_model.hpp"
#include "entropy/adaptive_bytes.hpp"

namespace nncodec::trellis_codec {
namespace {

enum Kind : std::uint8_t { kNone = 0, kColumns = 1, kKernels = 3 };
constexpr std::size_t kMaxSideBytes = std::size_t{1} << 26;
constexpr std::size_t kMaxKernel = 64;  // of the record's basis

enum Head : unsigned {
    kRowSteps = 1U << 3,
    kColumnSteps = 1U << 4,
    kTensorStep = 1U << 5,
    kBasis = 1U << 6,
    kCosines = 1U << 7,
    kNeedsSplit = 31U,
};

class SideWriter {
  public:
    void u8(std::size_t value) { out_.push_back(static_cast<std::uint8_t>(value)); }
    void number(int value) { u8(static_cast<std::size_t>(value < 0 ? -2 * value - 1 : 2 * value)); }
    const Bytes& bytes() const noexcept { return out_; }

  private:
    Bytes out_;
};

int signed_of(std::uint8_t byte) noexcept {
    return (byte & 1) == 0 ? byte / 2 : -(byte + 1) / 2;
}

int read_signed(ByteReader& in, const char* field) {
    return signed_of(in.u8(field));
}

template <typename T>
void read_axis(ByteReader& in, std::size_t count, const char* field, int unit, std::vector<T>& out) {
    const ByteView bytes = in.bytes(count, field);
    out.reserve(count);
    for (const std::uint8_t byte : bytes) out.push_back(static_cast<T>(signed_of(byte) * (1 << unit)));
}

void write_tensor(SideWriter& side, const TensorSide& t) {
    unsigned head = 0;
    for (unsigned axis = 0; axis < 3; ++axis) head |= t.scales[axis].empty() ? 0U : 1U << axis;
    head |= t.row_steps.empty() ? 0U : kRowSteps;
    head |= t.column_steps.empty() ? 0U : kColumnSteps;
    head |= t.step ? kTensorStep : 0U;
    head |= t.kernels == Kernels::basis ? kBasis : t.kernels == Kernels::cosines ? kCosines : 0U;
    side.u8(head);
    if (t.has_split()) side.u8(t.row_dimensions | t.column_dimensions << 4);
    side.u8(t.offset);
    if (t.step) side.number(*t.step);
    for (unsigned axis = 0; axis < 3; ++axis) {
        if (t.scales[axis].empty()) continue;
        side.u8(t.units[axis]);
        for (const std::int16_t scale : t.scales[axis]) side.number(scale / (1 << t.units[axis]));
    }
    for (const std::int8_t step : t.row_steps) side.number(step);
    for (const std::int8_t step : t.column_steps) side.number(step);
}

void check_steps(const ByteReader& in, const TensorSide& t) {
    const auto most = [](const std::vector<std::int8_t>& steps) {
        int size = 0;
        for (const int step : steps) size = std::max(size, std::abs(step));
        return size;
    };
    if (std::abs(t.step.value_or(0)) + most(t.row_steps) + most(t.column_steps) > kMaxStepExponent)
        in.fail("steps", "are too far from 1");
}

TensorSide read_tensor(ByteReader& in, const Shape& shape) {
    TensorSide t;
    t.elements = std::accumulate(shape.begin(), shape.end(), std::size_t{1}, std::multiplies<>());
    const unsigned head = in.u8("head of a tensor");
    if ((head & kNeedsSplit) != 0) {
        const unsigned split = in.u8("split");
        if ((split & 15U) > split >> 4 || split >> 4 > shape.size()) in.fail("split", "is not of the shape");
        t.set_split(shape, split & 15U, split >> 4);
    } else {
        t.set_split(shape, 0, static_cast<unsigned>(shape.size()));
    }
    t.offset = in.u8("offset");
    if ((head & kTensorStep) != 0) t.step = static_cast<std::int8_t>(read_signed(in, "tensor step"));
    const std::size_t sizes[3] = {t.rows, t.columns, t.positions};
    for (unsigned axis = 0; axis < 3; ++axis) {
        if ((head >> axis & 1U) == 0) continue;
        t.units[axis] = in.u8("unit");
        if (t.units[axis] > 3) in.fail("unit", "is above 3");
        read_axis(in, sizes[axis], "scales", t.units[axis], t.scales[axis]);
    }
    if ((head & kRowSteps) != 0) read_axis(in, t.rows, "row steps", 0, t.row_steps);
    if ((head & kColumnSteps) != 0) read_axis(in, t.row_elements(), "column steps", 0, t.column_steps);
    check_steps(in, t);
    t.set_kernel(shape);
    if ((head & kBasis) != 0 && (head & kCosines) != 0) in.fail("head of a tensor", "names two transforms");
    if ((head & (kBasis | kCosines)) != 0) {
        if (shape.size() < 3 || t.kernel() == 0)
            in.fail("head of a tensor", "transforms kernels that it does not have");
        t.kernels = (head & kBasis) != 0 ? Kernels::basis : Kernels::cosines;
    }
    return t;
}

void read_parameters(ByteReader& in, Model& model) {
    int scale = 64;
    int shape = 14;
    int radius = 0;
    for (std::size_t c = 0; c < model.classes(); ++c) {
        scale = (scale + read_signed(in, "scale of a class")) & 255;
        shape += read_signed(in, "shape of a class");
        radius += read_signed(in, "radius of a class");
        if (shape < 0 || shape > static_cast<int>(trellis::kMaxShape) || radius < 1 ||
            radius > static_cast<int>(trellis::kMaxSymbolRadius))
            in.fail("parameters", "are out of range");
        model.parameters.push_back({static_cast<std::uint8_t>(scale), static_cast<std::uint8_t>(shape),
                                    static_cast<std::uint8_t>(radius)});
    }
    make_tables(model);
    for (const rans::Frequencies& table : model.tables) {
        if (table.of.empty()) in.fail("parameters", "give no level a weight");
    }
}

// True if tables follow in the model.
bool read_side(ByteReader& in, Model& model, std::span<const Shape> shapes) {
    for (const Shape& shape : shapes) model.tensors.push_back(read_tensor(in, shape));
    const std::size_t classes = in.u8("classes");
    if (classes < 1 || classes > kMaxClasses) in.fail("classes", "is not 1 to 64");
    unsigned bound = 0;
    for (std::size_t c = 1; c < classes; ++c) {
        const unsigned width = in.u8("bound of a class");
        bound += width;
        if ((width == 0 && c > 1) || bound > 255)
            in.fail("bound of a class", "does not rise or is above 255");
        model.bounds.push_back(static_cast<std::uint8_t>(bound));
    }
    const unsigned kind = in.u8("kind of tables");
    if (kind > 1) in.fail("kind of tables", "is unknown");
    model.parametric = kind == 1;
    if (model.parametric) read_parameters(in, model);
    model.centroids.resize(classes);
    for (auto& of : model.centroids) {
        const std::size_t count = in.u8("number of centroids");
        if (count > kMaxCentroids) in.fail("number of centroids", "is above 16");
        read_axis(in, count, "centroids", 0, of);
    }
    in.expect_end("side information");
    return !model.parametric;
}

void check_layout(const ByteReader& in, const Model& model, std::size_t chunk_elements) {
    const bool alone = model.tensors.size() == 1;
    if (model.by_columns) {
        const std::size_t row = model.tensors[0].row_elements();
        if (!alone || !model.tensors[0].has_split()) in.fail("order", "needs one tensor with a split");
        if (row == 0 || chunk_elements % row != 0) in.fail("order", "needs whole rows in a chunk");
    }
    for (const TensorSide& t : model.tensors) {
        if (t.kernels == Kernels::plain) continue;
        if (t.kernels == Kernels::basis &&
            (!model.basis || model.basis_of_columns || model.basis->columns() != t.kernel()))
            in.fail("head of a tensor", "asks for a basis that is not there");
        if (t.kernels == Kernels::cosines && !dct::Transform::possible(t.kernel_height, t.kernel_width))
            in.fail("head of a tensor", "asks for cosines of a kernel that is too large");
        if (alone ? chunk_elements % t.kernel() != 0 : model.elements() > chunk_elements)
            in.fail("chunk_elements", "cuts kernels that are transformed");
    }
}

void read_transform(ByteReader& in, Model& model, std::span<const Shape> shapes, std::size_t chunk_elements) {
    const unsigned kind = in.u8("transform");
    if (kind == kNone) return;
    if (kind != kColumns && kind != kKernels) in.fail("transform", "is of an unknown kind");
    const bool columns = kind == kColumns;
    const auto n = static_cast<std::size_t>(
        in.varint("columns of the transform", columns ? klt::kMaxColumns : kMaxKernel));
    if (n < klt::kMinColumns) in.fail("columns of the transform", "are fewer than 2");
    if (columns) {
        const std::size_t elements =
            std::accumulate(shapes[0].begin(), shapes[0].end(), std::size_t{1}, std::multiplies<>());
        if (shapes.size() != 1) in.fail("transform", "belongs to a record of several tensors");
        if (elements % n != 0 || chunk_elements % n != 0)
            in.fail("columns of the transform", "do not divide the tensor and its chunks");
        if (elements / n < n) in.fail("columns of the transform", "are more than the rows");
    }
    model.basis = klt::decode_basis(in, n);
    model.basis_of_columns = columns;
}

}  // namespace

Bytes Model::write() const {
    ByteWriter out;
    out.le(std::bit_cast<std::uint32_t>(step));
    const auto log2_states = static_cast<unsigned>(std::bit_width(code.states)) - 1;
    out.u8(static_cast<std::uint8_t>((log2_states - 3) | static_cast<unsigned>(alphabet) << 3 |
                                     (by_columns ? 1U : 0U) << 4));
    out.u8(static_cast<std::uint8_t>(std::bit_width(lanes) - 1));
    out.u8(!basis ? kNone : basis_of_columns ? kColumns : kKernels);
    if (basis) {
        out.varint(basis->columns());
        out.bytes(basis_bytes);
    }
    SideWriter side;
    for (const TensorSide& tensor : tensors) write_tensor(side, tensor);
    side.u8(classes());
    unsigned before = 0;
    for (const unsigned bound : bounds) {
        side.u8(bound - before);
        before = bound;
    }
    side.u8(parametric ? 1 : 0);
    trellis::Parameters last{64, 14, 0};
    for (std::size_t c = 0; parametric && c < classes(); ++c) {
        const trellis::Parameters& p = parameters[c];
        side.number(static_cast<std::int8_t>(p.scale - last.scale));  // modulo 256
        side.number(int{p.shape} - last.shape);
        side.number(int{p.radius} - last.radius);
        last = p;
    }
    for (const auto& of : centroids) {
        side.u8(of.size());
        for (const std::int8_t c : of) side.number(c);
    }
    Bytes stream;
    adaptive::encode_bytes(side.bytes(), stream);
    out.varint(side.bytes().size());
    out.block(stream);
    if (!parametric) rans::write_tables(out, tables);
    return out.take();
}

Model read_model(ByteView bytes, std::span<const Shape> shapes, std::size_t chunk_elements) {
    ByteReader in(bytes);
    Model model;
    model.step = std::bit_cast<float>(in.le<std::uint32_t>("step"));
    if (!(model.step >= kLeastStep && model.step <= kGreatestStep)) in.fail("step", "is not 2^-80 to 2^80");
    const unsigned code = in.u8("code");
    if (code > 31) in.fail("code", "has unknown bits");
    model.code = trellis::kCodes[code & 7U];
    model.alphabet = static_cast<trellis::Alphabet>(code >> 3 & 1U);
    model.by_columns = (code >> 4 & 1U) != 0;
    const unsigned lanes_log2 = in.u8("lanes");
    if (lanes_log2 > 6) in.fail("lanes", "are above 2^6");
    model.lanes = 1U << lanes_log2;
    read_transform(in, model, shapes, chunk_elements);
    const auto side_bytes = static_cast<std::size_t>(in.varint("side information", kMaxSideBytes));
    const ByteView stream = in.block("side information");
    Bytes side(side_bytes);
    adaptive::decode_bytes(stream, side);
    ByteReader side_in(side);
    if (read_side(side_in, model, shapes)) {
        model.tables = rans::read_tables(in, 2 * model.classes());
        if (model.tables.size() != 2 * model.classes()) in.fail("tables", "are not two per class");
        for (const rans::Frequencies& table : model.tables) {
            if (table.prob_bits != rans::kDefaultProbBits) in.fail("tables", "are not of 12 bits");
            if (!table.of.empty() && table.of[0] != 0) in.fail("tables", "have the symbol 0");
        }
    }
    in.expect_end("model");
    check_layout(in, model, chunk_elements);
    return model;
}

}  // namespace nncodec::trellis_codec
