#include "kqueue.hpp"

#include <fcntl.h>

#include <cerrno>

namespace zloop::sys {

int open_kqueue() noexcept {
  const int fd = ::kqueue();
  if (fd < 0) return -errno;
  ::fcntl(fd, F_SETFD, FD_CLOEXEC);  // matters only for exec(2) without a fork: a forked child inherits no kqueue
  return fd;
}

int change_kqueue(int queue, const KernelEvent* changes, int count) noexcept {
  return ::kevent(queue, changes, count, nullptr, 0, nullptr) == 0 ? 0 : -errno;
}

int wait_kqueue(int queue, KernelEvent* events, int capacity, const timespec* timeout) noexcept {
  const int count = ::kevent(queue, nullptr, 0, events, capacity, timeout);
  return count >= 0 ? count : -errno;
}

}  // namespace zloop::sys
