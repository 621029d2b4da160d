// Where other threads leave work for the loop.
//
// The one queue that crosses threads: push() may come from anywhere, take_into() only from the loop thread.
// The lock is held for moving pointers, never around a call into foreign code. Each slot owns one reference, taken
// before the push; the receiver of take_into() gets it. Waking the loop is Wakeup's work, not the inbox's.
#pragma once

#include <atomic>
#include <cstddef>
#include <mutex>
#include <vector>

#include "zloop/ring_buffer.hpp"

namespace zloop {

// The lock of an inbox whose callers, the loop too, hold another one around each call but pending().
struct HeldByCaller {
  void lock() noexcept {}
  void unlock() noexcept {}
};

template <typename Lock>
class BasicInbox {
 public:
  // Any thread. Throws std::bad_alloc, having taken nothing.
  void push(void* item) {
    const std::scoped_lock lock(lock_);
    items_.push_back(item);
    pending_.store(true, std::memory_order_release);
  }

  // A hint that costs one load: true whenever a push has happened before (in this thread's view) and was not taken.
  [[nodiscard]] bool pending() const noexcept { return pending_.load(std::memory_order_acquire); }

  // Loop thread. Moves everything behind what `queue` already holds, in push order, and returns how much that was.
  // Throws std::bad_alloc; what was not moved stays, in order.
  std::size_t take_into(ReadyQueue& queue) {
    const std::scoped_lock lock(lock_);
    std::size_t moved = 0;
    try {
      for (; moved < items_.size(); ++moved) queue.push_back(items_[moved]);
    } catch (...) {
      items_.erase(items_.begin(), items_.begin() + static_cast<std::ptrdiff_t>(moved));
      throw;
    }
    items_.clear();
    pending_.store(false, std::memory_order_release);
    return moved;
  }

  // Calls visit(item) for each slot, until one returns non-zero. The caller keeps pushers out (Python: holds the GIL).
  template <typename Visit>
  int for_each(Visit visit) const {
    for (void* item : items_) {
      if (const int stop = visit(item)) return stop;
    }
    return 0;
  }

 private:
  Lock lock_;
  std::atomic<bool> pending_{false};
  std::vector<void*> items_;  // guarded by lock_
};

using Inbox = BasicInbox<std::mutex>;

}  // namespace zloop
