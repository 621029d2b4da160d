// The system calls of kqueue(2), in the style of zloop/sys.hpp. But a call that a signal interrupts is not repeated: it
// returns -EINTR.
#pragma once

#include <sys/event.h>
#include <time.h>  // NOLINT(modernize-deprecated-headers): timespec is not in every <ctime>

namespace zloop::sys {

using KernelEvent = struct ::kevent;

// A close-on-exec descriptor, which the caller owns, or -errno.
int open_kqueue() noexcept;

// 0 or -errno: the kernel stops at the first change that fails.
int change_kqueue(int queue, const KernelEvent* changes, int count) noexcept;

// The number of events, or -errno. A null timeout is no timeout.
int wait_kqueue(int queue, KernelEvent* events, int capacity, const timespec* timeout) noexcept;

}  // namespace zloop::sys
