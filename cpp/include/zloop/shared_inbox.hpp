// The queue of callbacks that other threads schedule on the loop, for callers that share no lock: the same as Inbox,
// for an interpreter without a GIL.
//
// Any thread may call push(); the loop calls the other functions. After push(), the thread calls Wakeup::notify(). Each
// slot owns one reference: the caller of push() takes it, and take_into() passes it on. There is no lock, so that the
// child of a fork never finds one that is held by a thread that it does not have.
#pragma once

#include <atomic>
#include <cstddef>

#include "zloop/ring_buffer.hpp"

namespace zloop {

class SharedInbox {
 public:
  SharedInbox() = default;
  ~SharedInbox() {  // releases no references
    discard(pushed_.load(std::memory_order_relaxed));
    discard(taken_);
  }
  SharedInbox(const SharedInbox&) = delete;
  SharedInbox& operator=(const SharedInbox&) = delete;

  // Throws std::bad_alloc; the reference is still the caller's then.
  void push(void* item) {
    auto* slot = new Slot{.item = item, .next = pushed_.load(std::memory_order_relaxed)};
    while (!pushed_.compare_exchange_weak(slot->next, slot, std::memory_order_seq_cst, std::memory_order_relaxed)) {
    }
  }

  // True if the inbox is not empty.
  [[nodiscard]] bool pending() const noexcept {
    return pushed_.load(std::memory_order_seq_cst) != nullptr || taken_ != nullptr;
  }

  // Appends the items that are there now to `queue`, those of one thread in the order of its pushes, and returns their
  // number. Throws std::bad_alloc; items that were not moved stay, in order.
  std::size_t take_into(ReadyQueue& queue) {
    const std::size_t moved = move_taken(queue);
    taken_ = reversed(pushed_.exchange(nullptr, std::memory_order_seq_cst));
    return moved + move_taken(queue);
  }

  // Calls visit(item) for each slot, in no order, until one returns non-zero. No thread may be in push() meanwhile.
  template <typename Visit>
  int for_each(Visit visit) const {
    for (const Slot* list : {static_cast<const Slot*>(taken_), static_cast<const Slot*>(pushed_.load())}) {
      for (; list != nullptr; list = list->next) {
        if (const int stop = visit(list->item)) return stop;
      }
    }
    return 0;
  }

 private:
  struct Slot {
    void* item;
    Slot* next;
  };

  std::size_t move_taken(ReadyQueue& queue) {
    std::size_t moved = 0;
    for (; taken_ != nullptr; ++moved) {
      queue.push_back(taken_->item);
      const Slot* moved_slot = taken_;
      taken_ = taken_->next;
      delete moved_slot;
    }
    return moved;
  }

  static Slot* reversed(Slot* slot) noexcept {
    Slot* first = nullptr;
    while (slot != nullptr) {
      Slot* next = slot->next;
      slot->next = first;
      first = slot;
      slot = next;
    }
    return first;
  }

  static void discard(Slot* slot) noexcept {
    while (slot != nullptr) {
      Slot* next = slot->next;
      delete slot;
      slot = next;
    }
  }

  std::atomic<Slot*> pushed_{nullptr};  // owned; the newest first
  Slot* taken_ = nullptr;               // owned; in order: what take_into() found no memory for
};

}  // namespace zloop
