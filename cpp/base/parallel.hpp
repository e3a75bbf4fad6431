// Runs independent tasks on a pool of threads.
//
// The result must not depend on the number of threads: a task writes only to places of its own.
#pragma once

#include <cstddef>
#include <functional>
#include <memory>

namespace nncodec {

// Calls task(i) once for each i in [0, count) on up to `threads` threads, the calling thread among them, and
// returns when all are done. threads == 0 means one per core that this process may use. If tasks throw, the
// exception of the lowest i is rethrown, whatever the number of threads. A call from inside a task runs in
// place, unless it is the only task. Workers are kept for the next call; they survive neither exit nor fork
// (a forked child starts its own).
void parallel_for(std::size_t count, std::size_t threads, const std::function<void(std::size_t)>& task);

class Loop;

// The same in two steps: workers begin at once, the calling thread when it waits; so it can prepare what
// comes next meanwhile. With one thread everything happens in wait().
class Started {
  public:
    Started(std::size_t count, std::size_t threads, std::function<void(std::size_t)> task);
    Started(const Started&) = delete;
    Started& operator=(const Started&) = delete;
    ~Started();  // waits for tasks that run; those that nobody has begun are left out

    void wait();  // helps; throws as parallel_for does

  private:
    void finish(bool check);

    std::shared_ptr<Loop> loop_;
};

// What a thread that waits for its tasks calls every 50 ms between them, unless it is itself inside a task:
// if it throws, tasks that nobody has begun are left out, and the exception goes to the caller when the
// others have ended. Null: nothing.
using InterruptCheck = void (*)();
void set_interrupt_check(InterruptCheck check) noexcept;

// Cores that this process may use (affinity mask respected), at least 1.
std::size_t hardware_threads() noexcept;

}  // namespace nncodec
