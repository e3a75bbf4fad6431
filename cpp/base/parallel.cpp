#include "base/parallel.hpp"

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <deque>
#include <exception>
#include <memory>
#include <mutex>
#include <system_error>
#include <thread>
#include <vector>

#if defined(__linux__)
#include <sched.h>
#endif
#if defined(__unix__) || defined(__APPLE__)
#include <pthread.h>
#endif

namespace nncodec {
namespace {

// One call of parallel_for. Workers hold it by shared_ptr: a late one may look at it after the call returned.
struct Loop {
    explicit Loop(std::size_t count, const std::function<void(std::size_t)>& task)
        : count(count), task(task) {}

    // Takes indices until none is left.
    void work() {
        std::size_t finished = 0;
        for (std::size_t i; (i = next.fetch_add(1, std::memory_order_relaxed)) < count; ++finished) {
            try {
                task(i);
            } catch (...) {
                const std::lock_guard lock(mutex);
                if (i < failed_at) {
                    failed_at = i;
                    failure = std::current_exception();
                }
            }
        }
        if (finished == 0) return;
        const std::lock_guard lock(mutex);
        if ((done += finished) == count) all_done.notify_all();
    }

    void wait() {
        std::unique_lock lock(mutex);
        all_done.wait(lock, [&] { return done == count; });
        if (failure) std::rethrow_exception(failure);
    }

    const std::size_t count;
    const std::function<void(std::size_t)>& task;
    std::atomic<std::size_t> next{0};
    std::mutex mutex;
    std::condition_variable all_done;
    std::size_t done = 0;
    std::size_t failed_at = SIZE_MAX;
    std::exception_ptr failure;
};

thread_local bool inside_task = false;

class Pool {
  public:
    void help(const std::shared_ptr<Loop>& loop, std::size_t helpers) {
        {
            const std::lock_guard lock(mutex_);
            for (std::size_t i = 0; i < helpers; ++i) queue_.push_back(loop);
            try {
                for (; workers_ < helpers; ++workers_) std::thread([this] { run(); }).detach();
            } catch (const std::system_error&) {
                // No thread to be had: those that there are, the caller's at least, do all the work.
            }
        }
        wake_.notify_all();
    }

  private:
    [[noreturn]] void run() {
        inside_task = true;
        for (;;) {
            std::shared_ptr<Loop> loop;
            {
                std::unique_lock lock(mutex_);
                wake_.wait(lock, [&] { return !queue_.empty(); });
                loop = std::move(queue_.front());
                queue_.pop_front();
            }
            loop->work();
        }
    }

    std::mutex mutex_;
    std::condition_variable wake_;
    std::deque<std::shared_ptr<Loop>> queue_;
    std::size_t workers_ = 0;
};

// Never destroyed: detached workers may still wait on it while the process exits. A forked child has none of
// the parent's threads, so it gets a fresh pool.
std::atomic<Pool*>& pool_slot() {
    static std::atomic<Pool*> slot{new Pool};
#if defined(__unix__) || defined(__APPLE__)
    static const int registered = pthread_atfork(nullptr, nullptr, [] {
        pool_slot().store(new Pool);
        inside_task = false;
    });
    (void)registered;
#endif
    return slot;
}

}  // namespace

std::size_t hardware_threads() noexcept {
#if defined(__linux__)
    cpu_set_t set;
    if (sched_getaffinity(0, sizeof set, &set) == 0) {
        return static_cast<std::size_t>(std::max(1, CPU_COUNT(&set)));
    }
#endif
    return std::max(1U, std::thread::hardware_concurrency());
}

void parallel_for(std::size_t count, std::size_t threads, const std::function<void(std::size_t)>& task) {
    if (count == 0) return;
    if (threads == 0) threads = hardware_threads();
    threads = std::min(threads, count);
    const auto loop = std::make_shared<Loop>(count, task);
    if (threads > 1 && !inside_task) pool_slot().load()->help(loop, threads - 1);
    const bool outer = !inside_task;
    inside_task = true;
    loop->work();
    if (outer) inside_task = false;
    loop->wait();
}

}  // namespace nncodec
