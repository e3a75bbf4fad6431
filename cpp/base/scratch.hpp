// Memory that a thread keeps between chunks: not cleared, never smaller, so that hot loops meet no page
// faults.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <type_traits>

namespace nncodec {

class Scratch {
  public:
    // n bytes of undefined content, valid until the next call.
    std::span<std::uint8_t> get(std::size_t n) {
        if (n > size_) {
            data_.reset();
            size_ = 0;
            data_ = std::make_unique_for_overwrite<std::uint8_t[]>(n + 64);
            size_ = n;
        }
        return {data_.get(), n};
    }

    // The same as numbers.
    template <typename T>
    std::span<T> get_as(std::size_t n) {
        static_assert(std::is_trivially_copyable_v<T> && alignof(T) <= __STDCPP_DEFAULT_NEW_ALIGNMENT__);
        return {reinterpret_cast<T*>(get(n * sizeof(T)).data()), n};
    }

  private:
    std::unique_ptr<std::uint8_t[]> data_;
    std::size_t size_ = 0;
};

}  // namespace nncodec
