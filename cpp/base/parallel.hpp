// Runs independent tasks on a pool of threads.
//
// The result must not depend on the number of threads: a task writes only to places of its own.
#pragma once

#include <cstddef>
#include <functional>

namespace nncodec {

// Calls task(i) once for each i in [0, count) on up to `threads` threads, the calling thread among them, and
// returns when all are done. threads == 0 means one per core that this process may use. If tasks throw, the
// exception of the lowest i is rethrown, whatever the number of threads. A call from inside a task runs in
// place. Workers are kept for the next call; they survive neither exit nor fork (a forked child starts its
// own).
void parallel_for(std::size_t count, std::size_t threads, const std::function<void(std::size_t)>& task);

// Cores that this process may use (affinity mask respected), at least 1.
std::size_t hardware_threads() noexcept;

}  // namespace nncodec
