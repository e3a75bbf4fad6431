// Memory that a thread keeps between chunks: not cleared, never smaller, so that hot loops meet no page
// faults.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>

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

  private:
    std::unique_ptr<std::uint8_t[]> data_;
    std::size_t size_ = 0;
};

}  // namespace nncodec
