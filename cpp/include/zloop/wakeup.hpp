// Wakes a loop that sleeps in its poller.
//
// Owns an eventfd or, where there is none, a pipe. Any thread may call notify(), after it has added to a queue of the
// loop's; all other functions are for the loop thread. A write is made only if the loop sleeps and has not been
// notified yet, so that a burst of notifications costs one system call. A notification is never lost: one that arrives
// between the loop's last check of its queues and its sleep makes try_sleep() fail.
//
// Callers have a lock in common, such as Python's GIL: notify() is called under the one that guards the queue, and so
// is close(), because otherwise notify() could write to another file that gets the descriptor's number. With
// ZLOOP_FREE_THREADED they need none: the queue is a SharedInbox, and notify() and close() have a lock of their own.
#pragma once

#include <atomic>
#include <cstdint>
#include <mutex>

#include "zloop/fork_mark.hpp"

namespace zloop {

#ifdef ZLOOP_FREE_THREADED
using WakeupLock = std::mutex;
#else
struct WakeupLock {
  void lock() noexcept {}
  void unlock() noexcept {}
};
#endif

class Wakeup {
 public:
  Wakeup() = default;
  ~Wakeup();
  Wakeup(const Wakeup&) = delete;
  Wakeup& operator=(const Wakeup&) = delete;

  // 0 or -errno. `mark`, which is borrowed, tells a child of a fork, in which nobody sleeps.
  [[nodiscard]] int open(const ForkMark* mark = nullptr) noexcept;
  void close() noexcept;
  // In the child of a fork, in which a thread that does not exist may hold the lock.
  void close_inherited() noexcept;

  // Becomes readable when a notification finds the loop asleep. To be watched edge-triggered: each write is one event
  // then, and the loop never needs to read.
  [[nodiscard]] int fd() const noexcept { return read_end_; }

  // Any thread. True if this call wrote, which it does only for a loop that sleeps. It executes no locked instruction
  // while an earlier notification is pending. A stale state does no harm: if this thread has not seen the loop's
  // awake(), the loop has yet to check its queues, and will find what this thread has queued. That holds if the loop
  // takes the callers' lock before it checks; or, without a lock, if all has one order: pushing, this, awake() and the
  // check are sequentially consistent.
  bool notify() noexcept { return state_.load(std::memory_order_seq_cst) != State::notified && notify_first(); }

  // Loop thread. True: the loop may block, and the next notify() writes. False: there was a notify() since awake();
  // check the queues instead of sleeping.
  [[nodiscard]] bool try_sleep() noexcept;

  // Loop thread, after the poller returned and before the queues are checked.
  void awake() noexcept;

 private:
  enum class State : std::uint8_t { awake, sleeping, notified };

  bool notify_first() noexcept;
  void drain() const noexcept;

  std::atomic<State> state_{State::awake};
  int read_end_ = -1;
  int write_end_ = -1;  // the same descriptor if it is an eventfd
  const ForkMark* mark_ = nullptr;
  [[no_unique_address]] WakeupLock lock_;  // held while a descriptor is written to, or closed
};

}  // namespace zloop
