// The centre of the engine: polls for readiness and calls the watchers that are ready.
//
// Owns the poller, the wake-up, and the buffers that all connections of the loop share. Does not own the watchers: the
// slot of an attached watcher points to it until detach(). Loop thread only, except for notify().
//
// In the child of a fork the reactor continues with a new poller and a new wake-up; those of the parent are not
// affected.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "zloop/adaptive_polling.hpp"
#include "zloop/fork_mark.hpp"
#include "zloop/invariants.hpp"
#include "zloop/poller.hpp"
#include "zloop/shared_buffer.hpp"
#include "zloop/wakeup.hpp"
#include "zloop/watcher.hpp"

namespace zloop {

class Reactor {
 public:
  static constexpr std::size_t read_buffer_size = std::size_t{256} * 1024;
  static constexpr std::size_t datagram_buffer_size = std::size_t{1024} * 1024;
  // Room for 17 TLS records of the largest size.
  static constexpr std::size_t output_buffer_size = std::size_t{17} * (16384 + 128);

  Reactor();
  ~Reactor();
  Reactor(const Reactor&) = delete;
  Reactor& operator=(const Reactor&) = delete;

  // 0 or -errno.
  [[nodiscard]] int open() noexcept;
  // Detaches every watcher. Harmless when closed.
  void close() noexcept;
  [[nodiscard]] bool is_open() const noexcept { return poller_ != nullptr; }
  [[nodiscard]] int poller_fd() const noexcept { return poller_ ? poller_->fd() : -1; }

  // Attaches the watcher to fd, with an empty interest. 0 or -errno: -EEXIST if another watcher is attached to that
  // number; -EBADF if the number is negative, or if it is not open and the table of slots would have to grow for it;
  // -ENOMEM.
  //
  // A number does not identify a file: other code may have closed the other watcher's descriptor, and the number may
  // refer to another file now. The poller detects that if it has ever watched for the other watcher. That watcher is
  // lost then, and is detached.
  [[nodiscard]] int attach(Watcher& watcher, int fd, const WatcherOps& ops) noexcept;

  // Changes what the poller watches for, at once. 0 or -errno: -EPERM for a regular file, -EBADF for a detached or a
  // lost watcher. After an error the watcher keeps its interest; if it is lost, its interest is empty. Removing bits
  // never fails.
  [[nodiscard]] int set_interest(Watcher& watcher, unsigned interest) noexcept;

  // Like set_interest(), but one-shot (EPOLLONESHOT): each bit of `interest`, which must not be empty, is reported
  // once. Nothing has to be removed afterwards, so a repeated wait costs one system call. If the call adds a bit,
  // events that were fetched before are dropped, because the kernel checks readiness again; for a watcher with an empty
  // interest, it checks the file that the number refers to now.
  [[nodiscard]] int arm(Watcher& watcher, unsigned interest) noexcept;

  // Like set_interest(interest_none), for a watcher that is likely to be interested again: the poller keeps a disabled
  // entry. That takes less kernel time when the interest returns, and the poller can detect whether the number still
  // refers to the same file. A hang-up may make one wait() return with an event that no watcher is called for. Never
  // fails.
  void disarm(Watcher& watcher) noexcept;

  // Removes bits from the interest; if none is left, it is disarm(). Never fails.
  void drop_interest(Watcher& watcher, unsigned interest) noexcept;

  // Like set_interest(), but adds the poller's entry anew: of pollers that watch the file
  // with interest_exclusive, this one is then the last to be woken. If the file is ready, the next wait() reports it.
  // 0 or -errno, as set_interest(); after an error the interest is empty. The interest may be set without
  // interest_exclusive, if a duplicate of the descriptor was added by the same number.
  [[nodiscard]] int requeue(Watcher& watcher, unsigned interest) noexcept;

  // True if the watcher is lost; asks the poller if necessary. False also if the poller cannot know.
  [[nodiscard]] bool is_lost(Watcher& watcher) noexcept;

  // To be called when the watcher's next events are for another handler. Events that were fetched before are dropped,
  // because the kernel checks readiness again. False if the watcher is lost.
  [[nodiscard]] bool refresh(Watcher& watcher) noexcept;

  // Detaches the watcher; events already fetched for it are dropped. Its number may be attached again at once. Call it
  // before the descriptor is closed: otherwise the kernel reports events as long as a duplicate of it is open.
  void detach(Watcher& watcher) noexcept;

  // The object that uses the descriptor exclusively (WatcherOps::user), or nullptr. Accepts any number. If the watcher
  // is found to be lost, it is detached.
  [[nodiscard]] void* user_of(int fd) noexcept;

  // The number of watchers with a non-empty interest. If it is zero, no event can end a wait() but that of notify().
  [[nodiscard]] std::size_t watched() const noexcept { return watched_; }

  // True if the turn skips its wait(0), see AdaptivePolling; the skip is counted. `ignored`: how many of the watchers
  // are no reason to poll.
  bool skips_poll(std::size_t ignored) noexcept { return polling_.skips(watched_ > ignored); }

  // The loop begins to run: the next turns poll.
  void reset_adaptive_polling() noexcept { polling_.reset(); }
  // From now on every turn polls.
  void disable_adaptive_polling() noexcept { polling_.disable(); }

  // The only blocking call; it runs without the interpreter's lock. Polls until an event arrives or timeout_ns has
  // passed (negative: no timeout). Stores the events for dispatch() and returns their number, or -errno: -EINTR after a
  // signal.
  [[nodiscard]] int wait(std::int64_t timeout_ns) noexcept;

  // The number of wait() calls; it may wrap around.
  [[nodiscard]] std::uint32_t waits() const noexcept { return waits_; }

  // Calls the watchers of the events that the last wait() stored, in order.
  void dispatch();

  // Drops the events that dispatch() has not reached; may be called inside dispatch(). The next wait() reports them
  // again.
  void interrupt_dispatch() noexcept;

  // Any thread, under the lock that Wakeup::notify() requires: ends the wait() in progress, or the next one that would
  // block. True if it made a system call.
  bool notify() noexcept { return wakeup_.notify(); }

  // Buffers that all connections use in turn, each for one loan: for one read of a stream; for one receive() of a
  // datagram socket, with room for several datagrams; for bytes that are produced and then sent.
  SharedBuffer& read_buffer() noexcept { return read_buffer_; }
  SharedBuffer& datagram_buffer() noexcept { return datagram_buffer_; }
  SharedBuffer& output_buffer() noexcept { return output_buffer_; }

 private:
  static constexpr int events_capacity = 256;

  struct Slot {
    Watcher* watcher = nullptr;    // borrowed until detach()
    std::uint32_t generation = 0;  // part of the token: separates a number's events from those of its earlier use
  };

  [[nodiscard]] int open_kernel_objects() noexcept;
  [[nodiscard]] int reopen_after_fork() noexcept;
  [[nodiscard]] int add_all_entries(Poller& poller) noexcept;
  void replace_poller() noexcept;
  [[nodiscard]] bool holds_orphan_event() const noexcept;
  void record_interest(Watcher& watcher, unsigned interest) noexcept;
  [[nodiscard]] int update_entry(Watcher& watcher, unsigned interest, std::uint64_t token) noexcept;
  [[nodiscard]] int add_or_modify_entry(Watcher& watcher, unsigned interest, std::uint64_t token) noexcept;
  [[nodiscard]] bool has_entry(const Watcher& watcher) const noexcept;
  [[nodiscard]] unsigned interest_for_entry(const Watcher& watcher, unsigned interest) const noexcept;
  [[nodiscard]] bool awaits_dispatch(const Watcher& watcher) const noexcept;
  [[nodiscard]] int first_unfinished() const noexcept;
  void reduce_interest(Watcher& watcher, unsigned interest) noexcept;
  [[nodiscard]] int modify_entry(Watcher& watcher, unsigned interest) noexcept;
  void check_file(Watcher& watcher) noexcept;
  static void note_file(Watcher& watcher) noexcept;
  void remove_entry(Watcher& watcher) noexcept;
  void mark_lost(Watcher& watcher) noexcept;
  void rearm(std::uint64_t token) noexcept;
  [[nodiscard]] std::uint64_t token_of(int fd) const noexcept;
  [[nodiscard]] Watcher* watcher_of(std::uint64_t token) const noexcept;

  std::unique_ptr<Poller> poller_;
  Wakeup wakeup_;
  AdaptivePolling polling_;
  std::vector<Slot> slots_;  // by descriptor
  std::size_t watched_ = 0;
  SharedBuffer read_buffer_{read_buffer_size};
  SharedBuffer datagram_buffer_{datagram_buffer_size};
  SharedBuffer output_buffer_{output_buffer_size};
  std::array<PollEvent, events_capacity> events_;  // of the last wait(); events_count_ of them are valid
  int events_count_ = 0;
  std::uint32_t waits_ = 0;
  int next_event_ = 0;            // the first event that dispatch() has not reached
  bool suspects_orphan_ = false;  // dispatch() has found an event without a watcher: its entry may be orphaned
  ForkMark fork_mark_;            // identifies the process that opened the poller and the wake-up
  [[no_unique_address, maybe_unused]] LiveCount<LiveClass::reactor> live_;

#ifdef ZLOOP_INVARIANTS
  friend struct Invariants;
  friend std::string violated_invariant(const Reactor& reactor);
  friend void check_invariants(Reactor& reactor) noexcept;

  std::size_t unchecked_turns_ = 0;  // so many more until check_invariants() checks again
#endif
};

}  // namespace zloop
