// Waits for readiness and tells the watchers: the centre of the engine.
//
// Owns the poller, the wake-up, and the buffers that what is on this loop shares. Owns no watcher: the slot of an
// attached one points to it until detach(). Loop thread only, but for notify().
//
// In the child of a fork the reactor goes on with a poller and a wake-up of its own; the parent's never feel it.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "zloop/adaptive_polling.hpp"
#include "zloop/fork_mark.hpp"
#include "zloop/poller.hpp"
#include "zloop/shared_buffer.hpp"
#include "zloop/wakeup.hpp"
#include "zloop/watcher.hpp"

namespace zloop {

class Reactor {
 public:
  static constexpr std::size_t read_buffer_size = std::size_t{256} * 1024;
  static constexpr std::size_t datagram_buffer_size = std::size_t{1024} * 1024;
  // 17 times the largest record of TLS.
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

  // Ties the watcher to fd, watching for nothing yet. -EEXIST if another watcher has that number, -EBADF for a
  // negative one or one that memory would have to be found for and that is not open, -ENOMEM.
  //
  // A number is no identity: it may have been closed under the other watcher, and stand for another file. The poller
  // knows, if it has ever watched for that one, which is lost then: it gives way.
  [[nodiscard]] int attach(Watcher& watcher, int fd, const WatcherOps& ops) noexcept;

  // Takes effect at once. On -errno (a regular file: -EPERM; a detached or a lost watcher: -EBADF) the watcher keeps
  // the interest it had; but one that is lost is interested in nothing. To be interested in less never fails.
  [[nodiscard]] int set_interest(Watcher& watcher, unsigned interest) noexcept;

  // Like set_interest(), but each kind of `interest`, which is not empty, is told once. That leaves nothing to be taken
  // back, so that waiting again and again takes one system call each time. An event fetched before is not told any
  // more where something is asked for anew: the kernel looks then, and for a watcher that was interested in nothing, at
  // the file that the number stands for by now.
  [[nodiscard]] int arm(Watcher& watcher, unsigned interest) noexcept;

  // Like set_interest(interest_none), but for a watcher that may be interested again: that takes less of the kernel's
  // time then, and the poller can tell whether the number still stands for its file. A hang-up may make one wait()
  // return with nothing to tell. Never fails.
  void disarm(Watcher& watcher) noexcept;

  // Takes those kinds from what there is; if nothing is left, by disarm(). Never fails.
  void drop_interest(Watcher& watcher, unsigned interest) noexcept;

  // Whether the watcher is lost, asking the poller if need be. False also where that cannot know.
  [[nodiscard]] bool is_lost(Watcher& watcher) noexcept;

  // For an owner that is another one's from here on. An event fetched before is not told any more: the kernel looks
  // anew. False if the watcher is lost.
  [[nodiscard]] bool refresh(Watcher& watcher) noexcept;

  // Unties the watcher; events already fetched for it are dropped. Its number may be attached again at once.
  // Call it before the descriptor is closed: the kernel would report it for as long as a duplicate is open.
  void detach(Watcher& watcher) noexcept;

  // Who has the descriptor to itself (WatcherOps::user), or nullptr. Any number may be asked for. A watcher that is
  // found to be lost is detached.
  [[nodiscard]] void* user_of(int fd) noexcept;

  // How many watchers the poller watches for something: without any, only notify() ends a wait().
  [[nodiscard]] std::size_t watched() const noexcept { return watched_; }

  // Whether a turn may go without its wait(0), see AdaptivePolling; it is counted then. `ignored`: how many of the
  // watchers are no reason to poll.
  bool skips_poll(std::size_t ignored) noexcept { return polling_.skips(watched_ > ignored); }

  // The next turns poll: the loop begins to run.
  void reset_adaptive_polling() noexcept { polling_.reset(); }
  // Every turn polls.
  void disable_adaptive_polling() noexcept { polling_.disable(); }

  // The one blocking call, made without the interpreter. timeout_ns below zero: until something happens. Stores what is
  // ready for dispatch() and returns how much, or -errno: -EINTR after a signal.
  [[nodiscard]] int wait(std::int64_t timeout_ns) noexcept;

  // How many wait()s there have been; it may wrap around.
  [[nodiscard]] std::uint32_t waits() const noexcept { return waits_; }

  // Calls the watchers of the events that the last wait() stored, in order.
  void dispatch();

  // Drops the events that dispatch() has not come to; also from inside it. The next wait() reports them again.
  void interrupt_dispatch() noexcept;

  // Any thread, under the lock that Wakeup::notify() asks for: makes a wait() in progress, or the next one that would
  // block, return. True if it had to write.
  bool notify() noexcept { return wakeup_.notify(); }

  // Memory for what all connections do in turn, on loan for: one read of a stream; one of a datagram socket, with room
  // for many a datagram; bytes that are made to be sent, and sent.
  SharedBuffer& read_buffer() noexcept { return read_buffer_; }
  SharedBuffer& datagram_buffer() noexcept { return datagram_buffer_; }
  SharedBuffer& output_buffer() noexcept { return output_buffer_; }

 private:
  static constexpr int events_capacity = 256;

  struct Slot {
    Watcher* watcher = nullptr;    // borrowed until detach()
    std::uint32_t generation = 0;  // part of the token: tells a re-used number's events from its forerunner's
  };

  [[nodiscard]] int open_kernel_objects() noexcept;
  [[nodiscard]] int own_kernel_objects() noexcept;
  [[nodiscard]] int list_all(Poller& poller) noexcept;
  void replace_poller() noexcept;
  [[nodiscard]] bool holds_orphan_event() const noexcept;
  void note_interest(Watcher& watcher, unsigned interest) noexcept;
  [[nodiscard]] int list(Watcher& watcher, unsigned interest, std::uint64_t token) noexcept;
  [[nodiscard]] int enlist(Watcher& watcher, unsigned interest, std::uint64_t token) noexcept;
  [[nodiscard]] bool is_listed(const Watcher& watcher) const noexcept;
  void reduce(Watcher& watcher, unsigned interest) noexcept;
  [[nodiscard]] int restate(Watcher& watcher, unsigned interest) noexcept;
  void check_file(Watcher& watcher) noexcept;
  void unlist(Watcher& watcher) noexcept;
  void lose(Watcher& watcher) noexcept;
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
  std::array<PollEvent, events_capacity> events_;  // of the last wait(), and so many of them
  int events_count_ = 0;
  std::uint32_t waits_ = 0;
  int next_event_ = 0;            // the first that dispatch() has not come to
  bool suspects_orphan_ = false;  // dispatch() has met an event of no watcher: the poller may have an entry of nobody's
  ForkMark fork_mark_;            // of the process that made the poller and the wake-up
};

}  // namespace zloop
