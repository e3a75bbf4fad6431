// The single door to pybind11: conversions and error translation.
//
// A binding converts and checks its arguments, releases the GIL, calls one kernel, converts back. Nothing
// else.
#pragma once

#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <optional>
#include <span>
#include <string>
#include <utility>

#include "base/bytes.hpp"

namespace nncodec::python {

namespace py = pybind11;
using namespace pybind11::literals;

// A contiguous buffer (numpy array, bytes, memoryview, mmap) seen as its raw bytes; no copy. It holds the
// exporter's buffer open for as long as it lives, so spans from it stay valid while the GIL is released.
// Build and destroy it with the GIL held.
class BufferView {
  public:
    BufferView(py::handle object, const char* name, bool writable = false) {
        const int flags = writable ? PyBUF_WRITABLE | PyBUF_C_CONTIGUOUS : PyBUF_C_CONTIGUOUS;
        if (PyObject_GetBuffer(object.ptr(), &view_, flags) != 0) {
            PyErr_Clear();
            throw py::type_error(std::string(name) + " must be a C-contiguous " +
                                 (writable ? "writable " : "") + "buffer, got " +
                                 Py_TYPE(object.ptr())->tp_name);
        }
    }
    BufferView(BufferView&& other) noexcept : view_(std::exchange(other.view_, Py_buffer{})) {}
    BufferView& operator=(BufferView&&) = delete;
    BufferView(const BufferView&) = delete;
    BufferView& operator=(const BufferView&) = delete;
    ~BufferView() {
        if (view_.obj != nullptr) PyBuffer_Release(&view_);
    }

    ByteView bytes() const noexcept {
        return {static_cast<const std::uint8_t*>(view_.buf), static_cast<std::size_t>(view_.len)};
    }
    std::span<std::uint8_t> writable_bytes() const noexcept {
        return {static_cast<std::uint8_t*>(view_.buf), static_cast<std::size_t>(view_.len)};
    }

    // The bytes as elements of T; throws ValueError when the size is no multiple or the start is not aligned.
    template <typename T>
    std::span<const T> as(const char* name) const {
        return {static_cast<const T*>(view_.buf), elements<T>(name)};
    }
    template <typename T>
    std::span<T> writable_as(const char* name) const {
        return {static_cast<T*>(view_.buf), elements<T>(name)};
    }

  private:
    template <typename T>
    std::size_t elements(const char* name) const {
        const auto n_bytes = static_cast<std::size_t>(view_.len);
        if (n_bytes % sizeof(T) != 0) {
            throw py::value_error(std::string(name) + " has " + std::to_string(n_bytes) +
                                  " bytes, no multiple of " + std::to_string(sizeof(T)));
        }
        if (reinterpret_cast<std::uintptr_t>(view_.buf) % alignof(T) != 0) {
            throw py::value_error(std::string(name) + " is not aligned to " + std::to_string(alignof(T)) +
                                  " bytes");
        }
        return n_bytes / sizeof(T);
    }

    Py_buffer view_{};
};

// An optional buffer: None is an empty span.
class OptionalBytes {
  public:
    OptionalBytes(const py::object& object, const char* name) {
        if (!object.is_none()) view_.emplace(object, name);
    }
    ByteView bytes() const noexcept { return view_ ? view_->bytes() : ByteView{}; }

  private:
    std::optional<BufferView> view_;
};

inline py::bytes to_bytes(ByteView data) {
    return {reinterpret_cast<const char*>(data.data()), data.size()};
}

}  // namespace nncodec::python
