// Wakes a loop that sleeps in its poller.
//
// Owns an eventfd or, where there is none, a pipe. notify() may come from any thread, and from a signal handler; the
// rest is the loop thread's. Whoever calls close() sees to it that no notify() is going on: it could write to a
// stranger that has the number next. A write is made only when the loop really sleeps and nobody has woken it yet, so
// that a burst of notifications costs one system call. A notification is never lost: one that arrives between the
// loop's last look at its queues and its sleep makes try_sleep() fail.
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

  // Becomes readable on a notification that finds the loop asleep. It is meant to be watched edge-triggered:
  // each write is one event then, and the loop never needs to read.
  [[nodiscard]] int fd() const noexcept { return read_end_; }

  // Any thread. True if this call wrote, which it does only for a loop that sleeps.
  bool notify() noexcept;

  // The same, without a locked instruction while an earlier notification is on its way. For callers who hold a lock
  // that the loop takes each time between awake() and the look at its queues. So a state that is out of date does no
  // harm: a loop whose awake() this caller has not seen has yet to take the lock, and will find what the caller left.
  bool notify_under_lock() noexcept { return state_.load(std::memory_order_relaxed) != State::notified && notify(); }

  // Loop thread. True: the loop may block, and whoever notifies from here on will write. False: somebody has notified
  // since awake(); look at the queues instead of sleeping.
  [[nodiscard]] bool try_sleep() noexcept;

  // Loop thread, after the poller returned and before the queues are looked at.
  void awake() noexcept;

 private:
  enum class State : std::uint8_t { awake, sleeping, notified };

  void drain() const noexcept;

  std::atomic<State> state_{State::awake};
  int read_end_ = -1;
  int write_end_ = -1;  // the same, of an eventfd
};

}  // namespace zloop
