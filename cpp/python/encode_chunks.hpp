// The chunks of a plan that lives in a Python object, in parallel and without the GIL.
#pragma once

#include <algorithm>
#include <vector>

#include "base/parallel.hpp"
#include "python/convert.hpp"

namespace nncodec::python {

// `Held` has the plan as `plan`, which has chunks() and encode_chunk(i). Chunks past the last are left out.
template <class Held>
py::list encode_chunks(const Held& held, std::size_t first, std::size_t end, std::size_t threads) {
    const std::size_t last = std::min(end, held.plan->chunks());
    std::vector<Bytes> payloads(last - std::min(first, last));
    {
        const py::gil_scoped_release nogil;
        parallel_for(payloads.size(), threads,
                     [&](std::size_t i) { payloads[i] = held.plan->encode_chunk(first + i); });
    }
    py::list out;
    for (const Bytes& payload : payloads) out.append(to_bytes(payload));
    return out;
}

}  // namespace nncodec::python
