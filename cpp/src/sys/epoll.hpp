// epoll(7), as zloop/sys.hpp has the other system calls. A call that a signal interrupts is not repeated: -EINTR.
#pragma once

#include <sys/epoll.h>

#include <cstdint>

namespace zloop::sys {

// Close-on-exec, and the caller's; or -errno.
int open_epoll() noexcept;

// 0 or -errno.
int control_epoll(int epoll, int operation, int fd, epoll_event* event) noexcept;

// How many events there are, or -errno. timeout_ns below zero: without end; else in whole milliseconds, rounded up.
int wait_epoll(int epoll, epoll_event* events, int capacity, std::int64_t timeout_ns) noexcept;

// The same to the nanosecond, for a timeout that is not below zero. -ENOSYS where the kernel has no such call, -EPERM
// where a sandbox's filter refuses those that it does not know.
int wait_epoll_precisely(int epoll, epoll_event* events, int capacity, std::int64_t timeout_ns) noexcept;

}  // namespace zloop::sys
