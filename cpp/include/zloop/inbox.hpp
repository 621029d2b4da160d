// The queue of callbacks that other threads schedule on the loop.
//
// Any thread may call push(); the loop calls take_into(). The inbox has no lock: callers make every call under one lock
// of their own, such as Python's GIL, and no function here calls foreign code, which could release that lock. After
// push(), the thread calls Wakeup::notify(). Each slot owns one reference: the caller of push() takes it, and
// take_into() passes it on.
#pragma once

#include <cstddef>
#include <vector>

#include "zloop/ring_buffer.hpp"

namespace zloop {

class Inbox {
 public:
  // Throws std::bad_alloc; the reference is still the caller's then.
  void push(void* item) { items_.push_back(item); }

  // True if the inbox is not empty.
  [[nodiscard]] bool pending() const noexcept { return !items_.empty(); }

  // Appends all items to `queue`, in the order of the pushes, and returns their number. Throws std::bad_alloc; items
  // that were not moved stay, in order.
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
