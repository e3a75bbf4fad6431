#include "base/memory.hpp"

#include <algorithm>
#include <mutex>
#include <new>
#include <vector>

#if defined(__linux__)
#include <sys/mman.h>
#endif
#if defined(__GLIBC__)
#include <malloc.h>
#endif

namespace nncodec {
namespace {

constexpr std::size_t kMostKept = std::size_t{12} << 20;   // what a window of an encoder holds
constexpr std::size_t kLeastKept = std::size_t{64} << 10;  // smaller ones come from the heap without faults

struct Buffers {
    std::mutex mutex;
    std::vector<Bytes> free;
    std::size_t held = 0;
};

// Never destroyed: threads may still give back while the process exits.
Buffers& buffers() {
    static auto* const all = new Buffers;
    return *all;
}

}  // namespace

void advise_huge_pages(void* data, std::size_t size) noexcept {
#if defined(__linux__) && defined(MADV_HUGEPAGE)
    constexpr std::size_t page = 4096;  // more where pages are larger: then the call fails, which is harmless
    const auto begin = (reinterpret_cast<std::uintptr_t>(data) + page - 1) / page * page;
    const auto end = (reinterpret_cast<std::uintptr_t>(data) + size) / page * page;
    if (end >= begin + kHugePage)
        static_cast<void>(madvise(reinterpret_cast<void*>(begin), end - begin, MADV_HUGEPAGE));
#else
    static_cast<void>(data);
    static_cast<void>(size);
#endif
}

void trim_heap() noexcept {
#if defined(__GLIBC__)
    malloc_trim(0);
#endif
}

Block::Block(std::size_t size) : size_(size) {
#if defined(__linux__)
    if (size >= kHugePage) {
        // Whole huge pages: cut from a mapping that is one longer.
        const std::size_t want = (size + kHugePage - 1) / kHugePage * kHugePage;
        void* const from =
            mmap(nullptr, want + kHugePage, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (from == MAP_FAILED) throw std::bad_alloc();
        auto* const start = static_cast<std::uint8_t*>(from);
        const std::size_t skip = (kHugePage - reinterpret_cast<std::uintptr_t>(from) % kHugePage) % kHugePage;
        if (skip != 0) munmap(start, skip);
        munmap(start + skip + want, kHugePage - skip);
        data_ = start + skip;
        mapped_ = want;
        advise_huge_pages(data_, size / kHugePage * kHugePage);  // the rest must not take a whole one
        return;
    }
#endif
    data_ = static_cast<std::uint8_t*>(::operator new(size, std::align_val_t{64}));
}

Block::~Block() {
#if defined(__linux__)
    if (mapped_ != 0) {
        munmap(data_, mapped_);
        return;
    }
#endif
    ::operator delete(data_, std::align_val_t{64});
}

Bytes take_buffer(std::size_t least) {
    Bytes buffer;
    {
        Buffers& all = buffers();
        const std::lock_guard lock(all.mutex);
        const auto fits = std::find_if(all.free.rbegin(), all.free.rend(),
                                       [&](const Bytes& b) { return b.capacity() >= least; });
        if (fits != all.free.rend()) {
            buffer = std::move(*fits);
            all.held -= buffer.capacity();
            all.free.erase(std::next(fits).base());
        }
    }
    if (buffer.capacity() < least) {
        buffer.reserve(least);
        advise_huge_pages(buffer.data(), buffer.capacity());
    }
    buffer.resize(buffer.capacity());
    return buffer;
}

void give_buffer(Bytes&& buffer) noexcept {
    Bytes mine = std::move(buffer);
    if (mine.capacity() < kLeastKept) return;
    Buffers& all = buffers();
    try {
        const std::lock_guard lock(all.mutex);
        if (all.held + mine.capacity() > kMostKept) return;
        const std::size_t size = mine.capacity();
        all.free.push_back(std::move(mine));
        all.held += size;
    } catch (const std::bad_alloc&) {
        // Not kept, then.
    }
}

}  // namespace nncodec
