#include "zloop/wakeup.hpp"

#include <array>
#include <cassert>
#include <cerrno>
#include <cstdint>

#include "zloop/sys.hpp"

namespace zloop {

Wakeup::~Wakeup() { close(); }

int Wakeup::open() noexcept {
  assert(read_end_ < 0);
  return sys::open_wakeup(&read_end_, &write_end_);
}

void Wakeup::close() noexcept {
  if (read_end_ < 0) return;
  if (write_end_ != read_end_) sys::close(write_end_);
  sys::close(read_end_);
  read_end_ = write_end_ = -1;
}

bool Wakeup::notify_first() noexcept {
  if (state_.exchange(State::notified, std::memory_order_acq_rel) != State::sleeping) return false;
  const std::uint64_t one = 1;
  // The loop does not read, so a pipe becomes full at some time; an eventfd does after 2^64 - 2 writes.
  while (sys::write(write_end_, &one, sizeof(one)) == -EAGAIN) drain();
  return true;
}

void Wakeup::drain() const noexcept {
  std::array<std::uint64_t, 512> ones;  // NOLINT(*-member-init): written by read(), and not used
  while (sys::read(read_end_, ones.data(), sizeof(ones)) > 0) continue;
}

bool Wakeup::try_sleep() noexcept {
  State expected = State::awake;
  return state_.compare_exchange_strong(expected, State::sleeping, std::memory_order_acq_rel);
}

// An exchange, although a store would set the same value: by reading what notify() wrote it makes everything that the
// caller of notify() did before visible to the following check of the queues.
void Wakeup::awake() noexcept { state_.exchange(State::awake, std::memory_order_acq_rel); }

}  // namespace zloop
