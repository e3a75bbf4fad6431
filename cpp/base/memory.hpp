// Large memory, and the page faults that it costs: on a fresh page they take longer than filling it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>

#include "base/bytes.hpp"

namespace nncodec {

inline constexpr std::size_t kHugePage = std::size_t{2} << 20;

// Asks for huge pages (one fault for 2 MiB) where the system has them on demand; a hint, nothing else.
void advise_huge_pages(void* data, std::size_t size) noexcept;

// Gives back what freed buffers of megabytes left: glibc keeps up to twice the largest of them for itself. It
// walks the whole heap of the process, so it is for what takes seconds anyway.
void trim_heap() noexcept;

// Fresh memory of undefined content, on huge pages where it is large enough and the system has them.
class Block {
  public:
    explicit Block(std::size_t size);  // throws std::bad_alloc
    Block(const Block&) = delete;
    Block& operator=(const Block&) = delete;
    ~Block();

    std::span<std::uint8_t> bytes() const noexcept { return {data_, size_}; }

  private:
    std::uint8_t* data_ = nullptr;
    std::size_t size_ = 0;
    std::size_t mapped_ = 0;  // 0: from operator new
};

// Buffers that are used again, so that only the first of them meet page faults. At most some megabytes are
// kept; the rest goes back to the system. Large ones ask for huge pages.
Bytes take_buffer(std::size_t least);  // of at least so many bytes, whatever they are
void give_buffer(Bytes&& buffer) noexcept;

}  // namespace nncodec
