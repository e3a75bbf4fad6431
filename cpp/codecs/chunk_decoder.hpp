// What every codec gives the container: one immutable object per record that decodes any of its chunks alone.
//
// A codec's subclass parses and checks the record's model in its constructor (DecodeError when it is bad),
// then decode() may run on many threads at once.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "base/bytes.hpp"
#include "base/parallel.hpp"

namespace nncodec {

class ChunkDecoder {
  public:
    ChunkDecoder() = default;
    ChunkDecoder(const ChunkDecoder&) = delete;
    ChunkDecoder& operator=(const ChunkDecoder&) = delete;
    virtual ~ChunkDecoder() = default;

    // Fills `out`, whose size is the chunk's decoded size in bytes (the caller has checked it against the
    // descriptor). `payload` is untrusted although its checksum was right: throws DecodeError, never reads or
    // writes outside, and consumes the payload to its last byte.
    virtual void decode(std::size_t chunk, ByteView payload, std::span<std::uint8_t> out) const = 0;

    // The same, into memory that nobody has touched since the system gave it: the system clears each page at
    // the first write to it, so that the page is in a cache when the rest follows.
    virtual void decode_fresh(std::size_t chunk, ByteView payload, std::span<std::uint8_t> out) const {
        decode(chunk, payload, out);
    }
};

// Builds a record's decoder when its first chunk is decoded: thus on the thread that needs it, and the
// records of a checkpoint in parallel. What is wrong with the model is reported by each chunk.
class LazyDecoder final : public ChunkDecoder {
  public:
    using Build = std::function<std::unique_ptr<ChunkDecoder>()>;

    explicit LazyDecoder(Build build) : build_(std::move(build)) {}

    void decode(std::size_t chunk, ByteView payload, std::span<std::uint8_t> out) const override;
    void decode_fresh(std::size_t chunk, ByteView payload, std::span<std::uint8_t> out) const override;

  private:
    const ChunkDecoder& built() const;

    Build build_;
    mutable std::once_flag once_;
    mutable std::unique_ptr<ChunkDecoder> decoder_;
    mutable std::string failure_;
};

// One chunk to decode; without a decoder, one that is not where it should be. The checksum runs over the
// payload, seeded with `crc_seed`.
struct ChunkJob {
    const ChunkDecoder* decoder = nullptr;
    std::size_t chunk = 0;
    ByteView payload;
    std::uint32_t crc_seed = 0;
    std::uint32_t crc = 0;
    std::span<std::uint8_t> out;
};

struct ChunkFailure {
    std::size_t job = SIZE_MAX;  // SIZE_MAX: none failed
    std::string cause;
};

// Checks and decodes jobs on up to `threads` threads (0: all cores), of which the calling one joins in when
// it waits. `fresh`: whether their memory has not been touched since the system gave it.
class ChunkBatch {
  public:
    ChunkBatch(std::vector<ChunkJob> jobs, std::size_t threads, bool fresh = false);

    // The failure of the lowest job, after all have ended. What else a job throws, or an interrupt, is thrown
    // once; job 0 counts as failed from then on.
    ChunkFailure wait();

  private:
    void run(std::size_t job);
    void report(std::size_t job, std::string cause);

    std::vector<ChunkJob> jobs_;
    bool fresh_;
    std::mutex mutex_;
    ChunkFailure failure_;
    Started started_;  // last: ends before the rest does
};

}  // namespace nncodec
