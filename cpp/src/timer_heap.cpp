#include "zloop/timer_heap.hpp"

#include <algorithm>
#include <cassert>
#include <new>
#include <ranges>

#include "zloop/radix_sort.hpp"

namespace zloop {

void TimerHeap::push(TimerNode& node, void* owner, std::int64_t deadline_ns) {
  assert(!holds(node));
  const std::size_t index = entries_.size();
  if (index > std::numeric_limits<decltype(node.index)>::max()) throw std::bad_alloc();
  const Entry entry{.deadline_ns = deadline_ns, .owner = owner};
  entries_.push_back(entry);
  node_offset_ = reinterpret_cast<char*>(&node) - static_cast<char*>(owner);
  node.sequence = next_sequence_++;
  sift_up(index, entry);
}

bool TimerHeap::remove(TimerNode& node) noexcept {
  if (!holds(node)) return false;
  const std::size_t index = node.index;
  const Entry last = entries_.back();
  if (index > 0 && before(last, entries_[(index - 1) / arity])) {
    entries_.pop_back();
    sift_up(index, last);
  } else {
    replace_with_last(index);
  }
  return true;
}

void TimerHeap::take_due(std::int64_t now_ns, ReadyQueue& queue) {
  if (!is_due(0, now_ns)) return;
  // No entry is due before its parent, so the due entries form a connected part of the heap that begins at the root.
  std::vector<std::size_t> indices{0};  // ascending
  for (std::size_t i = 0; i < indices.size(); ++i) {
    const std::size_t first_child = (indices[i] * arity) + 1;
    for (std::size_t child = first_child; child < first_child + arity; ++child) {
      if (is_due(child, now_ns)) indices.push_back(child);
    }
  }
  std::vector<Entry> due;
  due.reserve(indices.size());
  for (const std::size_t index : indices) due.push_back(entries_[index]);
  sort(due);
  queue.make_room(due.size());
  // The last index first: the entry that fills the gap is never due, so it is due later than all entries that are still
  // above it.
  for (const std::size_t index : std::views::reverse(indices)) replace_with_last(index);
  for (const Entry& entry : due) queue.push_back(entry.owner);
}

void TimerHeap::sort(std::vector<Entry>& entries) const {
  const auto in_order = [this](const Entry& left, const Entry& right) { return before(left, right); };
  if (entries.size() < radix_sort_from) {
    std::ranges::sort(entries, in_order);
    return;
  }
  radix_sort(entries, [](const Entry& entry) { return entry.deadline_ns; });
  // Sorts entries with equal deadlines by the order of insertion.
  for (auto first = entries.begin(); first != entries.end();) {
    const auto is_later = [first](const Entry& entry) { return entry.deadline_ns != first->deadline_ns; };
    const auto end = std::find_if(first + 1, entries.end(), is_later);
    std::sort(first, end, in_order);
    first = end;
  }
}

void TimerHeap::clear(void (*release)(void* owner)) {
  std::vector<Entry> entries;
  entries.swap(entries_);
  for (const Entry& entry : entries) release(entry.owner);
}

void TimerHeap::put(std::size_t index, Entry entry) noexcept {
  entries_[index] = entry;
  node_of(entry).index = static_cast<std::uint32_t>(index);
}

// Removes an entry and moves the last one to its place. The last one must not be before the parent of `index`; it may
// be the removed entry itself.
void TimerHeap::replace_with_last(std::size_t index) noexcept {
  const Entry last = entries_.back();
  entries_.pop_back();
  if (index < entries_.size()) sift_down(index, last);
}

void TimerHeap::sift_up(std::size_t index, Entry entry) noexcept {
  while (index > 0) {
    const std::size_t parent = (index - 1) / arity;
    if (!before(entry, entries_[parent])) break;
    put(index, entries_[parent]);
    index = parent;
  }
  put(index, entry);
}

void TimerHeap::sift_down(std::size_t index, Entry entry) noexcept {
  for (;;) {
    const std::size_t first_child = (index * arity) + 1;
    if (first_child >= entries_.size()) break;
    const std::size_t end = std::min(first_child + arity, entries_.size());
    std::size_t least = first_child;
    for (std::size_t child = first_child + 1; child < end; ++child) {
      if (before(entries_[child], entries_[least])) least = child;
    }
    if (!before(entries_[least], entry)) break;
    put(index, entries_[least]);
    index = least;
  }
  put(index, entry);
}

}  // namespace zloop
