// The kernel's readiness interface behind one virtual class; a backend is one file in src/poller/ and one line in
// make_poller(). Every backend passes the same contract test.
//
// A poller owns its kernel object and knows no watchers: it hands back the token given for a descriptor. It does not
// own the descriptors. Loop thread only.
#pragma once

#include <cstdint>
#include <memory>

namespace zloop {

// What to watch a descriptor for, and what happened to it.
// NOLINTNEXTLINE(cppcoreguidelines-use-enum-class,performance-enum-size): bits, combined as unsigned
enum Interest : unsigned {
  interest_none = 0,
  interest_read = 1,
  interest_write = 2,
  // Beside those: until the next event of the descriptor, whichever it is. Then there is silence, until modify(). By
  // itself it asks for silence, after a last word about a hang-up maybe.
  interest_once = 4,
};

struct PollEvent {
  std::uint64_t token;
  unsigned ready;  // Interest bits; an error or a hang-up sets all that are watched for: trying is how to find out
};

class Poller {
 public:
  Poller() = default;
  virtual ~Poller() = default;
  Poller(const Poller&) = delete;
  Poller& operator=(const Poller&) = delete;

  // Each returns 0 or -errno, and changes nothing when it fails. An interest is never empty. A descriptor that its
  // owner closed is watched no more, but is to be removed all the same. A regular file, which is always ready, is
  // refused by epoll (-EPERM) and taken by kqueue; asyncio leaves that to them, too.
  [[nodiscard]] virtual int open() noexcept = 0;
  [[nodiscard]] virtual int add(int fd, unsigned interest, std::uint64_t token) noexcept = 0;
  [[nodiscard]] virtual int remove(int fd) noexcept = 0;

  // Of what was added, these tell whether the number still stands for that file: -ENOENT for another one, -EBADF for
  // none. (A kqueue can only tell if it watched, and goes on to watch, for reading or for writing.)
  [[nodiscard]] virtual int modify(int fd, unsigned interest, std::uint64_t token) noexcept = 0;

  // Like add() for reading, but one event for each time the descriptor becomes readable.
  [[nodiscard]] virtual int add_edge_triggered(int fd, std::uint64_t token) noexcept = 0;

  // Waits until something is ready, or for timeout_ns (below zero: without end), never for less unless a signal
  // arrives: then -EINTR. Returns how many events were stored.
  [[nodiscard]] virtual int wait(PollEvent* events, int capacity, std::int64_t timeout_ns) noexcept = 0;

  // The kernel object's descriptor, -1 when closed.
  [[nodiscard]] virtual int fd() const noexcept = 0;

  // Closes the kernel object.
  virtual void close() noexcept = 0;

  // The same in the child of a fork(2), of a poller that was open before. The parent's registrations stay as they are.
  virtual void close_inherited() noexcept = 0;
};

// The platform's best backend; nullptr when memory is out.
std::unique_ptr<Poller> make_poller() noexcept;

}  // namespace zloop
