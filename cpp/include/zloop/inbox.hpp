// Where other threads leave callbacks for the loop.
//
// Any thread may push(); the loop takes. It has no lock of its own: every call is made under one lock of the callers',
// Python's GIL for example, which no call into foreign code releases. After push(), the thread calls Wakeup::notify().
// Each slot owns one reference, taken before the push; the receiver of take_into() gets it.
#pragma once

#include <cstddef>
#include <vector>

#include "zloop/ring_buffer.hpp"

namespace zloop {

class Inbox {
 public:
  // Throws std::bad_alloc, having taken nothing.
  void push(void* item) { items_.push_back(item); }

  // True if there is something to take.
  [[nodiscard]] bool pending() const noexcept { return !items_.empty(); }

  // Moves everything behind what `queue` already holds, in push order, and returns how many items that were. Throws
  // std::bad_alloc; what was not moved stays, in order.
  std::size_t take_into(ReadyQueue& queue) {
    std::size_t moved = 0;
    try {
      for (; moved < items_.size(); ++moved) queue.push_back(items_[moved]);
    } catch (...) {
      items_.erase(items_.begin(), items_.begin() + static_cast<std::ptrdiff_t>(moved));
      throw;
    }
    items_.clear();
    return moved;
  }

  // Calls visit(item) for each slot, until one returns non-zero.
  template <typename Visit>
  int for_each(Visit visit) const {
    for (void* item : items_) {
      if (const int stop = visit(item)) return stop;
    }
    return 0;
  }

 private:
  std::vector<void*> items_;  // each slot owns one reference
};

}  // namespace zloop
