#include "codecs/stored.hpp"

#include <algorithm>
#include <string>

namespace nncodec {

void StoredDecoder::decode(std::size_t /*chunk*/, ByteView payload, std::span<std::uint8_t> out) const {
    if (payload.size() != out.size()) {
        throw DecodeError("stored payload has " + std::to_string(payload.size()) +
                          " bytes, the elements take " + std::to_string(out.size()));
    }
    std::copy(payload.begin(), payload.end(), out.begin());
}

}  // namespace nncodec
