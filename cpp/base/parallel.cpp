#include "base/parallel.hpp"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <deque>
#include <exception>
#include <memory>
#include <mutex>
#include <thread>
#include <utility>
#include <vector>

#include "base/interrupt.hpp"

#if defined(__linux__)
#include <sched.h>
#endif
#if defined(__unix__) || defined(__APPLE__)
#include <pthread.h>
#endif

namespace nncodec {
namespace {

constexpr auto kBetweenChecks = std::chrono::milliseconds(50);

std::atomic<InterruptCheck> interrupt_check{nullptr};

thread_local bool inside_task = false;

// The outermost loop of which this thread is in a task, and whether it looks for the loop's interrupts.
thread_local Loop* current_loop = nullptr;
thread_local bool current_looks = false;

// What a task throws that has been interrupted; the loop knows why.
struct Interrupted {};

}  // namespace

// Workers hold it by shared_ptr: a late one may look at it after its end. Each thread has a stretch of
// indices of its own, so that neighbours, which often share a page of memory that neither has touched yet, go
// to one thread; who has done its own helps the others.
class Loop {
  public:
    Loop(std::size_t count, std::size_t threads, std::function<void(std::size_t)> task)
        : count_(count), task_(std::move(task)), stretches_(std::max<std::size_t>(threads, 1)) {
        const std::size_t n = stretches_.size();
        for (std::size_t s = 0; s < n; ++s) {
            stretches_[s].next = count / n * s + std::min(s, count % n);
            stretches_[s].end = count / n * (s + 1) + std::min(s + 1, count % n);
        }
    }

    // Takes indices until none is left. `check`: whether this thread looks for interrupts between them.
    void work(bool check) {
        const std::size_t first = joined_.fetch_add(1, std::memory_order_relaxed);
        std::size_t finished = 0;
        const Inside inside(this, check);
        for (std::size_t s = 0; s < stretches_.size(); ++s) {
            Stretch& stretch = stretches_[(first + s) % stretches_.size()];
            for (std::size_t i; (i = stretch.next.fetch_add(1, std::memory_order_relaxed)) < stretch.end;
                 ++finished) {
                if (cancelled_.load(std::memory_order_relaxed)) continue;
                try {
                    task_(i);
                } catch (...) {
                    fail(i);
                }
                if (check) look_for_interrupt();
            }
        }
        if (finished == 0) return;
        const std::lock_guard lock(mutex_);
        if ((done_ += finished) == count_) all_done_.notify_all();
    }

    void wait(bool check) {
        std::unique_lock lock(mutex_);
        const auto ended = [&] { return done_ == count_; };
        if (check) {
            while (!all_done_.wait_for(lock, kBetweenChecks, ended)) {
                lock.unlock();
                look_for_interrupt();
                lock.lock();
            }
        } else {
            all_done_.wait(lock, ended);
        }
    }

    // After wait(): what failed first, interrupts before all else.
    void rethrow() {
        if (failure_) std::rethrow_exception(std::exchange(failure_, nullptr));
    }

    // In the middle of a task.
    void point(bool check) {
        if (check) look_for_interrupt();
        if (cancelled_.load(std::memory_order_relaxed)) throw Interrupted{};
    }

    // Indices that nobody has taken yet are left out.
    void cancel() noexcept { cancelled_.store(true, std::memory_order_relaxed); }

  private:
    struct alignas(64) Stretch {
        std::atomic<std::size_t> next{0};
        std::size_t end = 0;
    };

    void fail(std::size_t i) {
        const std::lock_guard lock(mutex_);
        if (interrupted_ || (failure_ && i >= failed_at_)) return;
        failed_at_ = i;
        failure_ = std::current_exception();
    }

    // While a thread works on a loop: the outermost one is the one that interruptions end.
    class Inside {
      public:
        Inside(Loop* loop, bool check) : outermost_(current_loop == nullptr) {
            if (!outermost_) return;
            current_loop = loop;
            current_looks = check;
        }
        Inside(const Inside&) = delete;
        Inside& operator=(const Inside&) = delete;
        ~Inside() {
            if (outermost_) current_loop = nullptr;
        }

      private:
        bool outermost_;
    };

    // By the thread that waits alone.
    void look_for_interrupt() {
        const InterruptCheck look = interrupt_check.load(std::memory_order_relaxed);
        if (look == nullptr || interrupted_) return;
        const auto now = std::chrono::steady_clock::now();
        if (now - checked_ < kBetweenChecks) return;
        checked_ = now;
        try {
            look();
        } catch (...) {
            cancel();
            const std::lock_guard lock(mutex_);
            interrupted_ = true;
            failure_ = std::current_exception();
        }
    }

    const std::size_t count_;
    const std::function<void(std::size_t)> task_;
    std::vector<Stretch> stretches_;
    std::atomic<std::size_t> joined_{0};
    std::atomic<bool> cancelled_{false};
    std::mutex mutex_;
    std::condition_variable all_done_;
    std::size_t done_ = 0;
    std::size_t failed_at_ = SIZE_MAX;
    bool interrupted_ = false;
    std::exception_ptr failure_;
    std::chrono::steady_clock::time_point checked_ = std::chrono::steady_clock::now();
};

namespace {

class Pool {
  public:
    void help(const std::shared_ptr<Loop>& loop, std::size_t helpers) {
        {
            const std::lock_guard lock(mutex_);
            try {
                for (std::size_t i = 0; i < helpers; ++i) queue_.push_back(loop);
                for (; workers_ < helpers; ++workers_) std::thread([this] { run(); }).detach();
            } catch (const std::exception&) {
                // No thread or no memory to be had: those threads that there are, the caller's at least, do
                // all the work. The loop may be known to some, so nothing is thrown before it is done.
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
            loop->work(false);
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

void set_interrupt_check(InterruptCheck check) noexcept {
    interrupt_check.store(check);
}

void interruption_point() {
    if (current_loop != nullptr) return current_loop->point(current_looks);
    const InterruptCheck look = interrupt_check.load(std::memory_order_relaxed);
    if (look == nullptr) return;
    thread_local std::chrono::steady_clock::time_point checked;
    const auto now = std::chrono::steady_clock::now();
    if (now - checked < kBetweenChecks) return;
    checked = now;
    look();
}

Started::Started(std::size_t count, std::size_t threads, std::function<void(std::size_t)> task) {
    if (threads == 0) threads = hardware_threads();
    threads = std::min(threads, std::max<std::size_t>(count, 1));
    const bool help = threads > 1 && !inside_task;
    loop_ = std::make_shared<Loop>(count, help ? threads : 1, std::move(task));
    if (help) pool_slot().load()->help(loop_, threads - 1);
}

Started::~Started() {
    if (loop_ == nullptr) return;
    loop_->cancel();
    finish(false);
}

void Started::wait() {
    if (loop_ == nullptr) return;
    finish(!inside_task);
    std::exchange(loop_, nullptr)->rethrow();
}

void Started::finish(bool check) {
    const bool outer = !inside_task;
    inside_task = true;
    loop_->work(check);
    if (outer) inside_task = false;
    loop_->wait(check);
}

void parallel_for(std::size_t count, std::size_t threads, const std::function<void(std::size_t)>& task) {
    if (count == 0) return;
    if (count == 1) return task(0);  // in its place, so that loops within it have threads
    Started(count, threads, [&task](std::size_t i) { task(i); }).wait();
}

}  // namespace nncodec
