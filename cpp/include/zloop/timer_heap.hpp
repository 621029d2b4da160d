// A four-ary min-heap of timers, ordered by deadline. Every timer knows its index, so a cancelled timer is removed at
// once.
//
// The heap does not own the nodes: each TimerNode is embedded in its owner, at the same offset in all owners of one
// heap. An entry owns one reference to the timer's owner; the code that takes the entry out gets it. Only clear() calls
// foreign code. Loop thread only.
#pragma once

#include <cstddef>
#include <cstdint>
#include <limits>
#include <vector>

#include "zloop/ring_buffer.hpp"

namespace zloop {

// What the owner of a timer embeds.
struct TimerNode {
  std::uint32_t index = 0;     // of its entry; stale after the entry has left the heap
  std::uint32_t sequence = 0;  // orders equal deadlines by insertion, unless 2^31 insertions lie between them; wraps
};

class TimerHeap {
 public:
  static constexpr std::int64_t never = std::numeric_limits<std::int64_t>::max();

  TimerHeap() = default;
  ~TimerHeap() = default;  // releases no references: call clear() before
  TimerHeap(const TimerHeap&) = delete;
  TimerHeap& operator=(const TimerHeap&) = delete;

  [[nodiscard]] std::size_t size() const noexcept { return entries_.size(); }
  [[nodiscard]] bool holds(const TimerNode& node) const noexcept {
    return node.index < entries_.size() && &node_of(entries_[node.index]) == &node;
  }

  // Adds a timer and takes over one reference to `owner`, which embeds `node`; the node must not be in a heap. Timers
  // with equal deadlines come out in the order of insertion. Throws std::bad_alloc, also if 32 bits cannot count the
  // timers; the reference is still the caller's then.
  void push(TimerNode& node, void* owner, std::int64_t deadline_ns);

  // Removes a timer and passes its reference to the caller. False if the heap does not hold the timer.
  bool remove(TimerNode& node) noexcept;

  // The earliest deadline, or `never`.
  [[nodiscard]] std::int64_t next_deadline() const noexcept {
    return entries_.empty() ? never : entries_.front().deadline_ns;
  }

  // Moves the owners of all timers that are due at now_ns, with their references, to the end of `queue`, in the order
  // of (deadline, insertion). Throws std::bad_alloc; nothing is moved then.
  void take_due(std::int64_t now_ns, ReadyQueue& queue);

  // Removes every entry, then calls release(owner) for each; `release` may push timers.
  void clear(void (*release)(void* owner));

  // Calls visit(owner) for each reference the heap holds, until one returns non-zero.
  template <typename Visit>
  int for_each_owner(Visit visit) const {
    for (const Entry& entry : entries_) {
      if (const int stop = visit(entry.owner)) return stop;
    }
    return 0;
  }

 private:
  // A quarter of a cache line, so that the children of an entry are in at most two lines.
  struct Entry {
    std::int64_t deadline_ns;
    void* owner;
  };

  static constexpr std::size_t arity = 4;
  // From this number of timers on, a radix sort is faster than a comparison sort: for 200,000 timers that are due at
  // the same time it takes a fifth of the time.
  static constexpr std::size_t radix_sort_from = 1024;

  [[nodiscard]] TimerNode& node_of(const Entry& entry) const noexcept {
    return *reinterpret_cast<TimerNode*>(static_cast<char*>(entry.owner) + node_offset_);
  }
  [[nodiscard]] bool before(const Entry& left, const Entry& right) const noexcept {
    if (left.deadline_ns != right.deadline_ns) return left.deadline_ns < right.deadline_ns;
    return static_cast<std::int32_t>(node_of(left).sequence - node_of(right).sequence) < 0;
  }
  [[nodiscard]] bool is_due(std::size_t index, std::int64_t now_ns) const noexcept {
    return index < entries_.size() && entries_[index].deadline_ns <= now_ns;
  }
  void put(std::size_t index, Entry entry) noexcept;
  void sift_up(std::size_t index, Entry entry) noexcept;
  void sift_down(std::size_t index, Entry entry) noexcept;
  void replace_with_last(std::size_t index) noexcept;
  void sort(std::vector<Entry>& entries) const;

  std::vector<Entry> entries_;
  std::ptrdiff_t node_offset_ = 0;  // of the node in each owner, in bytes
  std::uint32_t next_sequence_ = 0;
};

}  // namespace zloop
