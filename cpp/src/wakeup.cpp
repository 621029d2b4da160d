#include "zloop/wakeup.hpp"

#include <sys/eventfd.h>
#include <unistd.h>

#include <cassert>
#include <cerrno>
#include <cstdint>

#include "zloop/sys.hpp"

namespace zloop {

Wakeup::~Wakeup() { close(); }

int Wakeup::open() noexcept {
  assert(fd_ < 0);
  fd_ = ::eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
  return fd_ >= 0 ? 0 : -errno;
}

void Wakeup::close() noexcept {
  if (fd_ < 0) return;
  sys::close(fd_);
  fd_ = -1;
}

bool Wakeup::notify() noexcept {
  if (state_.exchange(State::notified, std::memory_order_acq_rel) != State::sleeping) return false;
  const std::uint64_t one = 1;
  // Cannot fail: the counter would have to be written 2^64 - 2 times. EINTR does not occur on a non-blocking eventfd.
  [[maybe_unused]] const ssize_t written = ::write(fd_, &one, sizeof(one));
  return true;
}

bool Wakeup::try_sleep() noexcept {
  State expected = State::awake;
  return state_.compare_exchange_strong(expected, State::sleeping, std::memory_order_acq_rel);
}

// An exchange, where a store would do for the value: reading what notify() wrote is what makes everything that its
// caller did before visible to the look at the queues that follows.
void Wakeup::awake() noexcept { state_.exchange(State::awake, std::memory_order_acq_rel); }

}  // namespace zloop
