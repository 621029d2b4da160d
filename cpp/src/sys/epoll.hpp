// The system calls of epoll(7), in the style of zloop/sys.hpp. But a call that a signal interrupts is not repeated: it
// returns -EINTR.
#pragma once

#include <sys/epoll.h>

#include <cstdint>

namespace zloop::sys {

// A close-on-exec descriptor, which the caller owns, or -errno.
int open_epoll() noexcept;

// 0 or -errno.
int control_epoll(int epoll, int operation, int fd, epoll_event* event) noexcept;

// The number of events, or -errno. A negative timeout_ns is no timeout; others are rounded up to whole milliseconds.
int wait_epoll(int epoll, epoll_event* events, int capacity, std::int64_t timeout_ns) noexcept;

// The same with nanosecond precision; the timeout must not be negative. -ENOSYS if the kernel lacks the call, -EPERM if
// a sandbox's filter refuses calls that it does not know.
int wait_epoll_precisely(int epoll, epoll_event* events, int capacity, std::int64_t timeout_ns) noexcept;

}  // namespace zloop::sys
