// The kernel's readiness interface behind one virtual class. A backend is one file in src/poller/, which defines
// make_poller(). Every backend passes the same contract test.
//
// A poller owns its kernel object and knows no watchers: an event has the token that was passed for the descriptor. It
// does not own the descriptors. Loop thread only.
#pragma once

#include <cstdint>
#include <memory>

namespace zloop {

// What a descriptor is watched for, and what it is ready for.
// NOLINTNEXTLINE(cppcoreguidelines-use-enum-class,performance-enum-size): bits, combined as unsigned
enum Interest : unsigned {
  interest_none = 0,
  interest_read = 1,
  interest_write = 2,
  // With the bits above: one-shot, disabled after the descriptor's next event of either kind until modify() re-arms it
  // (EPOLLONESHOT). Alone: disabled; one last hang-up may still be reported.
  interest_once = 4,
  // With interest_read, and in add() only: of the pollers that watch a file so, what arrives wakes one that waits, the
  // one that added it first (EPOLLEXCLUSIVE, Linux 4.5); it wakes them all where there is no such thing. modify() may
  // refuse to set it or to change it: -EINVAL.
  interest_exclusive = 8,
};

struct PollEvent {
  std::uint64_t token;
  unsigned ready;  // Interest bits; an error or a hang-up sets all that are watched: I/O returns the reason
};

class Poller {
 public:
  Poller() = default;
  virtual ~Poller() = default;
  Poller(const Poller&) = delete;
  Poller& operator=(const Poller&) = delete;

  // Each returns 0 or -errno; a call that fails changes nothing. An interest is never empty. A descriptor that its
  // owner has closed is no longer watched, but must still be removed. A regular file is always ready: epoll refuses it
  // (-EPERM), and kqueue accepts it; asyncio leaves that to them, too.
  [[nodiscard]] virtual int open() noexcept = 0;
  [[nodiscard]] virtual int add(int fd, unsigned interest, std::uint64_t token) noexcept = 0;
  [[nodiscard]] virtual int remove(int fd) noexcept = 0;

  // Changes the interest of an added descriptor. remove() and modify() return -ENOENT if the number now refers to
  // another file, and -EBADF if it refers to none. (A kqueue can only detect that if it watched, and continues to
  // watch, for reading or for writing.)
  [[nodiscard]] virtual int modify(int fd, unsigned interest, std::uint64_t token) noexcept = 0;

  // Like add() for reading, but edge-triggered: one event each time the descriptor becomes readable.
  [[nodiscard]] virtual int add_edge_triggered(int fd, std::uint64_t token) noexcept = 0;

  // Waits until a descriptor is ready or timeout_ns has passed (negative: no timeout). Returns the number of events
  // stored, or -errno. It never returns early, except after a signal: -EINTR.
  [[nodiscard]] virtual int wait(PollEvent* events, int capacity, std::int64_t timeout_ns) noexcept = 0;

  // The kernel object's descriptor, -1 when closed.
  [[nodiscard]] virtual int fd() const noexcept = 0;

  // Closes the kernel object.
  virtual void close() noexcept = 0;

  // Closes, in the child of a fork(2), a poller that was opened before the fork. The parent's registrations are not
  // changed.
  virtual void close_inherited() noexcept = 0;
};

// The platform's best backend; nullptr if memory allocation fails.
std::unique_ptr<Poller> make_poller() noexcept;

}  // namespace zloop
