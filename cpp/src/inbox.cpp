#include "zloop/inbox.hpp"

namespace zloop {

std::size_t Inbox::take_into(ReadyQueue& queue) {
  const std::scoped_lock lock(mutex_);
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

}  // namespace zloop
