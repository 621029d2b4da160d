#include "zloop/timer_heap.hpp"

#include <algorithm>
#include <cassert>

namespace zloop {

void TimerHeap::push(TimerNode& node, std::int64_t deadline_ns) {
  assert(!node.queued && !node.cancelled);
  entries_.push_back(Entry{.deadline_ns = deadline_ns, .sequence = next_sequence_, .node = &node});
  ++next_sequence_;
  node.queued = true;
  sift_up(entries_.size() - 1);
}

bool TimerHeap::cancel(TimerNode& node) noexcept {
  if (node.cancelled) return false;
  node.cancelled = true;
  if (!node.queued) return true;
  if (entries_.back().node == &node) {  // a time-out that was set last and is no longer needed: the common case
    entries_.pop_back();
    release(node);
    return true;
  }
  ++dead_;
  if (dead_ > compact_minimum && dead_ > entries_.size() / 2) compact();
  return true;
}

std::int64_t TimerHeap::next_deadline() noexcept {
  while (!entries_.empty()) {
    TimerNode& node = *entries_.front().node;
    if (!node.cancelled) return entries_.front().deadline_ns;
    remove_top();
    --dead_;
    release(node);
  }
  return never;
}

void* TimerHeap::pop_due(std::int64_t now_ns) noexcept {
  if (next_deadline() > now_ns || entries_.empty()) return nullptr;
  TimerNode& node = *entries_.front().node;
  remove_top();
  node.queued = false;
  return node.owner;
}

void TimerHeap::clear() noexcept {
  std::vector<Entry> entries;
  entries.swap(entries_);
  dead_ = 0;
  for (const Entry& entry : entries) entry.node->queued = false;
  for (const Entry& entry : entries) {
    if (release_owner_ != nullptr) release_owner_(entry.node->owner);
  }
}

void TimerHeap::release(TimerNode& node) noexcept {
  node.queued = false;
  if (release_owner_ != nullptr) release_owner_(node.owner);
}

void TimerHeap::remove_top() noexcept {
  entries_.front() = entries_.back();
  entries_.pop_back();
  if (!entries_.empty()) sift_down(0);
}

// Dead nodes are chained and released last: a release may push and cancel timers.
void TimerHeap::compact() noexcept {
  TimerNode* first_dead = nullptr;
  std::size_t live = 0;
  for (const Entry& entry : entries_) {
    if (entry.node->cancelled) {
      entry.node->next_dead = first_dead;
      first_dead = entry.node;
    } else {
      entries_[live++] = entry;
    }
  }
  entries_.erase(entries_.begin() + static_cast<std::ptrdiff_t>(live), entries_.end());
  dead_ = 0;
  for (std::size_t index = (live / arity) + 1; index-- > 0;) {
    if (index < live) sift_down(index);
  }
  while (first_dead != nullptr) {
    TimerNode& node = *first_dead;
    first_dead = node.next_dead;
    release(node);
  }
}

void TimerHeap::sift_up(std::size_t index) noexcept {
  const Entry entry = entries_[index];
  while (index > 0) {
    const std::size_t parent = (index - 1) / arity;
    if (!entry.before(entries_[parent])) break;
    entries_[index] = entries_[parent];
    index = parent;
  }
  entries_[index] = entry;
}

void TimerHeap::sift_down(std::size_t index) noexcept {
  const Entry entry = entries_[index];
  for (;;) {
    const std::size_t first_child = (index * arity) + 1;
    if (first_child >= entries_.size()) break;
    const std::size_t end = std::min(first_child + arity, entries_.size());
    std::size_t least = first_child;
    for (std::size_t child = first_child + 1; child < end; ++child) {
      if (entries_[child].before(entries_[least])) least = child;
    }
    if (!entries_[least].before(entry)) break;
    entries_[index] = entries_[least];
    index = least;
  }
  entries_[index] = entry;
}

}  // namespace zloop
