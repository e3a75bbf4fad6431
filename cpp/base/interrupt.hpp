// How a long task learns that its loop (base/parallel.hpp) has been interrupted.
#pragma once

namespace nncodec {

// What a task that takes long calls every few thousand steps: throws if its loop has been interrupted
// meanwhile. On the thread that waits for the loop, and outside any, it looks for interrupts itself. What it
// throws must leave the task.
void interruption_point();

}  // namespace nncodec
