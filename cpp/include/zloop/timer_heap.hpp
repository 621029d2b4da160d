// Timers by deadline: a four-ary min-heap in which every timer knows its place, so that a cancelled one leaves at once.
//
// The heap does not own the nodes: each TimerNode is embedded in its owner, and an entry stands for one reference to
// that owner, which whoever takes the entry out gets. It runs no foreign code. Loop thread only.
#pragma once

#include <cstddef>
#include <cstdint>
#include <limits>
#include <vector>

#include "zloop/ring_buffer.hpp"

namespace zloop {

// What the owner of a timer embeds.
struct TimerNode {
  std::size_t index = 0;  // of its entry; stale once that has left the heap
};

class TimerHeap {
 public:
  static constexpr std::int64_t never = std::numeric_limits<std::int64_t>::max();

  TimerHeap() = default;
  ~TimerHeap() = default;  // releases nothing: clear() it before
  TimerHeap(const TimerHeap&) = delete;
  TimerHeap& operator=(const TimerHeap&) = delete;

  [[nodiscard]] std::size_t size() const noexcept { return entries_.size(); }
  [[nodiscard]] bool holds(const TimerNode& node) const noexcept {
    return node.index < entries_.size() && entries_[node.index].node == &node;
  }

  // Takes over one reference to the owner, of which `node` is a part and is not in a heap. Equal deadlines come out in
  // the order they were pushed. Throws std::bad_alloc, having taken nothing.
  void push(TimerNode& node, void* owner, std::int64_t deadline_ns);

  // Takes one timer out: its reference is the caller's then. False if the heap does not hold it.
  bool remove(TimerNode& node) noexcept;

  // The earliest deadline, or `never`.
  [[nodiscard]] std::int64_t next_deadline() const noexcept {
    return entries_.empty() ? never : entries_.front().deadline_ns;
  }

  // Moves the owners of all timers that are due at now_ns, with their references, behind what `queue` holds, by
  // (deadline, order of pushes). Throws std::bad_alloc, having moved nothing.
  void take_due(std::int64_t now_ns, ReadyQueue& queue);

  // Forgets every entry, then calls release(owner) for each: that may push timers.
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
  // With the owner, although the node is a part of it: taking a timer out touches no memory but the heap's.
  struct Entry {
    std::int64_t deadline_ns;
    std::uint64_t sequence;  // breaks ties by insertion
    TimerNode* node;
    void* owner;

    [[nodiscard]] bool before(const Entry& other) const noexcept {
      return deadline_ns != other.deadline_ns ? deadline_ns < other.deadline_ns : sequence < other.sequence;
    }
  };

  static constexpr std::size_t arity = 4;

  [[nodiscard]] bool is_due(std::size_t index, std::int64_t now_ns) const noexcept {
    return index < entries_.size() && entries_[index].deadline_ns <= now_ns;
  }
  void put(std::size_t index, const Entry& entry) noexcept;
  void sift_up(std::size_t index, const Entry& entry) noexcept;
  void sift_down(std::size_t index, const Entry& entry) noexcept;
  void fill_from_below(std::size_t index) noexcept;

  std::vector<Entry> entries_;
  std::uint64_t next_sequence_ = 0;
};

}  // namespace zloop
