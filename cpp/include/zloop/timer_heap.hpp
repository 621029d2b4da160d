// Timers by deadline: a four-ary min-heap with cancellation in constant time.
//
// A cancelled timer stays in the heap as a dead entry and leaves when it reaches the top, when it happens to be the
// last entry, or when dead entries outnumber live ones and the heap is compacted; so a hundred thousand pending timers
// make cancelling no slower.
//
// The heap does not own the nodes: each TimerNode is embedded in its owner, and a queued node stands for one reference
// to that owner, which the heap hands back by pop_due() or gives up through the release function. Loop thread only.
#pragma once

#include <cstddef>
#include <cstdint>
#include <limits>
#include <vector>

namespace zloop {

struct TimerNode {
  void* owner = nullptr;           // what the timer belongs to; the embedder sets it, the heap only passes it on
  bool queued = false;             // the heap holds an entry, and with it a reference
  bool cancelled = false;          // set by TimerHeap::cancel, never cleared
  TimerNode* next_dead = nullptr;  // the heap's own, while it compacts
};

class TimerHeap {
 public:
  // Gives up one reference to a node's owner. It may run arbitrary code, and push or cancel timers from inside:
  // the heap is consistent, and holds the node no longer, when it is called.
  using ReleaseFn = void (*)(void* owner);

  static constexpr std::int64_t never = std::numeric_limits<std::int64_t>::max();

  explicit TimerHeap(ReleaseFn release_owner = nullptr) noexcept : release_owner_(release_owner) {}
  ~TimerHeap() = default;  // releases nothing: clear() it before
  TimerHeap(const TimerHeap&) = delete;
  TimerHeap& operator=(const TimerHeap&) = delete;

  // Entries, dead ones included.
  [[nodiscard]] std::size_t size() const noexcept { return entries_.size(); }
  [[nodiscard]] std::size_t dead() const noexcept { return dead_; }

  // Takes over one reference to node.owner. The node is neither queued nor cancelled. Equal deadlines come out in the
  // order they were pushed. Throws std::bad_alloc, having taken nothing.
  void push(TimerNode& node, std::int64_t deadline_ns);

  // Marks the node cancelled; false if it was cancelled before. Its reference is released now or later.
  bool cancel(TimerNode& node) noexcept;

  // The earliest live deadline, or `never`. Releases dead entries that stand in front of it.
  std::int64_t next_deadline() noexcept;

  // The owner of the earliest live timer due at now_ns, with its reference; nullptr when none is due.
  void* pop_due(std::int64_t now_ns) noexcept;

  // Releases every entry.
  void clear() noexcept;

  // Calls visit(owner) for each reference the heap holds, dead entries included, until one returns non-zero.
  template <typename Visit>
  int for_each_owner(Visit visit) const {
    for (const Entry& entry : entries_) {
      if (const int stop = visit(entry.node->owner)) return stop;
    }
    return 0;
  }

 private:
  struct Entry {
    std::int64_t deadline_ns;
    std::uint64_t sequence;  // breaks ties by insertion
    TimerNode* node;

    [[nodiscard]] bool before(const Entry& other) const noexcept {
      return deadline_ns != other.deadline_ns ? deadline_ns < other.deadline_ns : sequence < other.sequence;
    }
  };

  static constexpr std::size_t arity = 4;
  static constexpr std::size_t compact_minimum = 64;  // below this a sweep costs more than the memory it frees

  void sift_up(std::size_t index) noexcept;
  void sift_down(std::size_t index) noexcept;
  void remove_top() noexcept;
  void compact() noexcept;
  void release(TimerNode& node) noexcept;

  std::vector<Entry> entries_;
  std::size_t dead_ = 0;
  std::uint64_t next_sequence_ = 0;
  ReleaseFn release_owner_;
};

}  // namespace zloop
