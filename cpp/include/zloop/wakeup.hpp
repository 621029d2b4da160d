// Wakes a loop that sleeps in its poller.
//
// Owns an eventfd or, where there is none, a pipe. Any thread may call notify(), under the lock of the queue that it
// has added to; all other functions are for the loop thread. The caller of close() makes sure that no notify() is in
// progress: it could write to another file that gets the descriptor's number. A write is made only if the loop sleeps
// and has not been notified yet, so that a burst of notifications costs one system call. A notification is never lost:
// one that arrives between the loop's last check of its queues and its sleep makes try_sleep() fail.
#pragma once

#include <atomic>
#include <cstdint>

namespace zloop {

class Wakeup {
 public:
  Wakeup() = default;
  ~Wakeup();
  Wakeup(const Wakeup&) = delete;
  Wakeup& operator=(const Wakeup&) = delete;

  // 0 or -errno.
  [[nodiscard]] int open() noexcept;
  void close() noexcept;

  // Becomes readable when a notification finds the loop asleep. To be watched edge-triggered: each write is one event
  // then, and the loop never needs to read.
  [[nodiscard]] int fd() const noexcept { return read_end_; }

  // Any thread, under a lock that the loop takes each time between awake() and the check of its queues. True if this
  // call wrote, which it does only for a loop that sleeps. It executes no locked instruction while an earlier
  // notification is pending. A stale state does no harm: if this thread has not seen the loop's awake(), the loop has
  // not taken the lock yet, and will find what this thread has queued.
  bool notify() noexcept { return state_.load(std::memory_order_relaxed) != State::notified && notify_first(); }

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
};

}  // namespace zloop
