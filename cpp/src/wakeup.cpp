#include "zloop/wakeup.hpp"

#include <array>
#include <cassert>
#include <cerrno>
#include <cstdint>
#include <mutex>
#include <new>

#include "zloop/sys.hpp"

namespace zloop {

Wakeup::~Wakeup() { close(); }

int Wakeup::open(const ForkMark* mark) noexcept {
  assert(read_end_ < 0);
  mark_ = mark;
  return sys::open_wakeup(&read_end_, &write_end_);
}

void Wakeup::close_inherited() noexcept {
  new (&lock_) WakeupLock;  // the old one is not destroyed: it may be held
  close();
}

void Wakeup::close() noexcept {
  const std::scoped_lock lock(lock_);
  if (read_end_ < 0) return;
  if (write_end_ != read_end_) sys::close(write_end_);
  sys::close(read_end_);
  read_end_ = write_end_ = -1;
}

bool Wakeup::notify_first() noexcept {
  if (state_.exchange(State::notified, std::memory_order_seq_cst) != State::sleeping) return false;
  if (mark_ != nullptr && mark_->inherited()) return false;
  const std::scoped_lock lock(lock_);
  if (write_end_ < 0) return false;
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
  return state_.compare_exchange_strong(expected, State::sleeping, std::memory_order_seq_cst);
}

// An exchange, although a store would set the same value: by reading what notify() wrote it makes everything that the
// caller of notify() did before visible to the following check of the queues.
void Wakeup::awake() noexcept { state_.exchange(State::awake, std::memory_order_seq_cst); }

}  // namespace zloop
