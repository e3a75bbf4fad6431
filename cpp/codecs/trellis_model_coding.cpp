// The model's bytes.
#include <algorithm>
#include <bit>
#include <numeric>

#include "codecs/trellis_model.hpp"
#include "codecs/trellis_side.hpp"

namespace nncodec::trellis_codec {
namespace {

enum Kind : unsigned { kNone = 0, kColumns = 1, kKernels = 3, kIntegers = 4 };
constexpr std::size_t kMaxKernel = 64;  // of the record's basis

enum Head : unsigned {
    kRowSteps = 1U << 3,
    kColumnSteps = 1U << 4,
    kTensorStep = 1U << 5,
    kBasis = 1U << 6,
    kCosines = 1U << 7,
    kNeedsSplit = 31U,
};

constexpr int kMostScale = 128;  // of a scale or step as it is coded

void write_tensor(SideWriter& side, const TensorSide& t, unsigned version) {
    if (version >= 2) side.number(Field::layout, static_cast<std::size_t>(t.layout.kind));
    unsigned head = 0;
    for (unsigned axis = 0; axis < 3; ++axis) head |= t.scales[axis].empty() ? 0U : 1U << axis;
    head |= t.row_steps.empty() ? 0U : kRowSteps;
    head |= t.column_steps.empty() ? 0U : kColumnSteps;
    head |= t.step ? kTensorStep : 0U;
    head |= t.kernels == Kernels::basis ? kBasis : t.kernels == Kernels::cosines ? kCosines : 0U;
    side.number(Field::head, head);
    if (t.has_split()) side.number(Field::split, t.row_dimensions | t.column_dimensions << 4);
    side.number(Field::offset, t.offset);
    if (t.step) side.signed_number(Field::step, *t.step);
    for (unsigned axis = 0; axis < 3; ++axis) {
        if (t.scales[axis].empty()) continue;
        side.number(Field::unit, t.units[axis]);
        side.list<std::int16_t>(axis, t.scales[axis], 1 << t.units[axis]);
    }
    if (!t.row_steps.empty()) side.list<std::int8_t>(kRowStepsAxis, t.row_steps, 1);
    if (!t.column_steps.empty()) side.list<std::int8_t>(kColumnStepsAxis, t.column_steps, 1);
}

void check_steps(const SideReader& in, const TensorSide& t) {
    const auto most = [](const std::vector<std::int8_t>& steps) {
        int size = 0;
        for (const int step : steps) size = std::max(size, std::abs(step));
        return size;
    };
    if (std::abs(t.step.value_or(0)) + most(t.row_steps) + most(t.column_steps) > kMaxStepExponent)
        in.fail("steps", "are too far from 1");
}

TensorSide read_tensor(SideReader& in, const Shape& stored, unsigned version) {
    TensorSide t;
    t.elements = std::accumulate(stored.begin(), stored.end(), std::size_t{1}, std::multiplies<>());
    auto kind = LayoutKind::stored;
    if (version >= 2) kind = static_cast<LayoutKind>(in.number(Field::layout, 2, "layout"));
    if (kind != LayoutKind::stored && stored.size() < 3) in.fail("layout", "needs three dimensions");
    t.layout = layout_of(kind, stored);
    const Shape shape = coded_shape(kind, stored);
    const unsigned head = in.number(Field::head, 255, "head of a tensor");
    if ((head & kNeedsSplit) != 0) {
        const unsigned split = in.number(Field::split, 255, "split");
        if ((split & 15U) > split >> 4 || split >> 4 > shape.size()) in.fail("split", "is not of the shape");
        t.set_split(shape, split & 15U, split >> 4);
    } else {
        t.set_split(shape, 0, static_cast<unsigned>(shape.size()));
    }
    t.offset = static_cast<std::uint8_t>(in.number(Field::offset, 255, "offset"));
    if ((head & kTensorStep) != 0)
        t.step = static_cast<std::int8_t>(in.signed_number(Field::step, 127, "tensor step"));
    const std::size_t sizes[3] = {t.rows, t.columns, t.positions};
    for (unsigned axis = 0; axis < 3; ++axis) {
        if ((head >> axis & 1U) == 0) continue;
        t.units[axis] = static_cast<std::uint8_t>(in.number(Field::unit, 3, "unit"));
        in.list(axis, sizes[axis], kMostScale, 1 << t.units[axis], "scales", t.scales[axis]);
    }
    if ((head & kRowSteps) != 0) in.list(kRowStepsAxis, t.rows, 127, 1, "row steps", t.row_steps);
    if ((head & kColumnSteps) != 0)
        in.list(kColumnStepsAxis, t.row_elements(), 127, 1, "column steps", t.column_steps);
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

void read_parameters(SideReader& in, Model& model) {
    int scale = 64;
    int shape = 14;
    int radius = 0;
    for (std::size_t c = 0; c < model.classes(); ++c) {
        scale += in.signed_number(Field::scale, 255, "scale of a class");
        shape += in.signed_number(Field::shape, 255, "shape of a class");
        radius += in.signed_number(Field::radius, 255, "radius of a class");
        if (scale < 0 || scale > 255 || shape < 0 || shape > static_cast<int>(trellis::kMaxShape) ||
            radius < 1 || radius > static_cast<int>(trellis::kMaxSymbolRadius))
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
bool read_side(SideReader& in, Model& model, std::span<const Shape> shapes, unsigned version) {
    for (const Shape& shape : shapes) model.tensors.push_back(read_tensor(in, shape, version));
    const std::size_t classes = in.number(Field::count, kMaxClasses - 1, "number of classes") + 1U;
    unsigned bound = 0;
    for (std::size_t c = 1; c < classes; ++c) {
        bound += in.number(Field::bound, 255, "bound of a class") + (c > 1 ? 1U : 0U);
        if (bound > 255) in.fail("bound of a class", "is above 255");
        model.bounds.push_back(static_cast<std::uint8_t>(bound));
    }
    model.parametric = in.number(Field::count, 1, "kind of tables") == 1;
    if (model.parametric) read_parameters(in, model);
    model.centroids.resize(classes);
    for (auto& of : model.centroids) {
        const std::uint32_t count = in.number(Field::count, kMaxCentroids, "number of centroids");
        for (std::uint32_t i = 0; i < count; ++i) {
            of.push_back(static_cast<std::int8_t>(in.signed_number(Field::centroid, 127, "centroid")));
        }
    }
    in.finish();
    return !model.parametric;
}

void check_chunks(const ByteReader& in, const Model& model, std::size_t chunk_elements) {
    const bool alone = model.tensors.size() == 1;
    if (model.by_columns) {
        if (!alone || !model.tensors[0].has_split()) in.fail("order", "needs one tensor with a split");
        const std::size_t row = model.tensors[0].row_elements();
        if (row == 0 || chunk_elements % row != 0) in.fail("order", "needs whole rows in a chunk");
    }
    if (model.integers && model.has_huge()) in.fail("transform", "in integers has levels above 255");
    for (const TensorSide& t : model.tensors) {
        if (model.has_integers(t) && !t.column_steps.empty())
            in.fail("transform", "in integers has steps of columns");
        if (!t.layout.is_stored() && t.elements > 0) {
            const bool by_rows = alone && t.layout.kind == LayoutKind::channels_last;
            if (by_rows ? chunk_elements % t.layout.row() != 0 : model.elements() > chunk_elements)
                in.fail("chunk_elements", "cuts tensors that are stored in another layout");
        }
        if (t.kernels == Kernels::plain) continue;
        if (t.kernels == Kernels::basis &&
            (!model.basis || model.basis_of_columns || model.basis->columns() != t.kernel()))
            in.fail("head of a tensor", "asks for a basis that is not there");
        if (t.kernels == Kernels::cosines && model.basis_of_columns)
            in.fail("head of a tensor", "transforms kernels of a tensor whose columns are transformed");
        if (t.kernels == Kernels::cosines && !dct::Transform::possible(t.kernel_height, t.kernel_width))
            in.fail("head of a tensor", "asks for cosines of a kernel that is too large");
        if (alone ? chunk_elements % t.kernel() != 0 : model.elements() > chunk_elements)
            in.fail("chunk_elements", "cuts kernels that are transformed");
    }
}

void read_transform(ByteReader& in, Model& model, std::span<const Shape> shapes, std::size_t chunk_elements) {
    const unsigned byte = in.u8("transform");
    if (byte == kNone) return;
    const unsigned kind = byte & ~kIntegers;
    if (kind != kColumns && kind != kKernels) in.fail("transform", "is of an unknown kind");
    model.integers = (byte & kIntegers) != 0;
    const bool columns = kind == kColumns;
    const auto n = static_cast<std::size_t>(
        in.varint("columns of the transform", columns ? klt::kMaxColumns : kMaxKernel));
    if (n < klt::kMinColumns) in.fail("columns of the transform", "are fewer than 2");
    if (columns) {
        if (shapes.size() != 1) in.fail("transform", "belongs to a record of several tensors");
        const std::size_t elements =
            std::accumulate(shapes[0].begin(), shapes[0].end(), std::size_t{1}, std::multiplies<>());
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
    const unsigned kind = !basis ? kNone : basis_of_columns ? kColumns : kKernels;
    out.u8(static_cast<std::uint8_t>(kind | (basis && integers ? kIntegers : 0U)));
    if (basis) {
        out.varint(basis->columns());
        out.bytes(basis_bytes);
    }
    SideWriter side;
    for (const TensorSide& tensor : tensors) write_tensor(side, tensor, version());
    side.number(Field::count, classes() - 1);
    for (std::size_t c = 0; c < bounds.size(); ++c)
        side.number(Field::bound,
                    c == 0 ? bounds[0] : static_cast<std::size_t>(bounds[c] - bounds[c - 1] - 1));
    side.number(Field::count, parametric ? 1 : 0);
    trellis::Parameters last{64, 14, 0};
    for (std::size_t c = 0; parametric && c < classes(); ++c) {
        const trellis::Parameters& p = parameters[c];
        side.signed_number(Field::scale, int{p.scale} - last.scale);
        side.signed_number(Field::shape, int{p.shape} - last.shape);
        side.signed_number(Field::radius, int{p.radius} - last.radius);
        last = p;
    }
    for (const auto& of : centroids) {
        side.number(Field::count, of.size());
        for (const std::int8_t c : of) side.signed_number(Field::centroid, c);
    }
    out.block(side.finish());
    if (!parametric) rans::write_tables(out, tables);
    return out.take();
}

Model read_model(ByteView bytes, std::span<const Shape> shapes, std::size_t chunk_elements,
                 unsigned version) {
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
    SideReader side(in.block("side information"));
    if (read_side(side, model, shapes, version)) {
        model.tables = rans::read_tables(in, 2 * model.classes());
        if (model.tables.size() != 2 * model.classes()) in.fail("tables", "are not two per class");
        for (const rans::Frequencies& table : model.tables) {
            if (table.prob_bits != rans::kDefaultProbBits) in.fail("tables", "are not of 12 bits");
            if (!table.of.empty() && table.of[0] != 0) in.fail("tables", "have the symbol 0");
        }
    }
    in.expect_end("model");
    check_chunks(in, model, chunk_elements);
    return model;
}

}  // namespace nncodec::trellis_codec
