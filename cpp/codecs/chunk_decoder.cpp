#include "codecs/chunk_decoder.hpp"

#include <mutex>
#include <new>

#include "base/crc32c.hpp"

namespace nncodec {

const ChunkDecoder& LazyDecoder::built() const {
    std::call_once(once_, [&] {
        try {
            decoder_ = build_();
        } catch (const DecodeError& error) {
            failure_ = error.what();
        }
    });
    if (decoder_ == nullptr) throw DecodeError(failure_);
    return *decoder_;
}

void LazyDecoder::decode(std::size_t chunk, ByteView payload, std::span<std::uint8_t> out) const {
    built().decode(chunk, payload, out);
}

void LazyDecoder::decode_fresh(std::size_t chunk, ByteView payload, std::span<std::uint8_t> out) const {
    built().decode_fresh(chunk, payload, out);
}

ChunkBatch::ChunkBatch(std::vector<ChunkJob> jobs, std::size_t threads, bool fresh)
    : jobs_(std::move(jobs)),
      fresh_(fresh),
      started_(jobs_.size(), threads, [this](std::size_t i) { run(i); }) {}

ChunkFailure ChunkBatch::wait() {
    try {
        started_.wait();
    } catch (...) {
        report(0, "decoding was interrupted");  // whoever asks again must not take it for done
        throw;
    }
    return failure_;
}

void ChunkBatch::run(std::size_t i) {
    const ChunkJob& job = jobs_[i];
    if (job.decoder == nullptr) {
        report(i, "chunk " + std::to_string(job.chunk) + " is not where it should be");
        return;
    }
    if (crc32c(job.payload, job.crc_seed) != job.crc) {
        report(i, "checksum of chunk " + std::to_string(job.chunk) + " is wrong: the data is damaged");
        return;
    }
    try {
        if (fresh_) {
            job.decoder->decode_fresh(job.chunk, job.payload, job.out);
        } else {
            job.decoder->decode(job.chunk, job.payload, job.out);
        }
    } catch (const DecodeError& error) {
        report(i, "chunk " + std::to_string(job.chunk) + ": " + error.what());
    }
}

void ChunkBatch::report(std::size_t job, std::string cause) {
    const std::lock_guard lock(mutex_);
    if (job < failure_.job) failure_ = {job, std::move(cause)};
}

}  // namespace nncodec
