// kqueue(2), as zloop/sys.hpp has the other system calls. A call that a signal interrupts is not repeated: -EINTR.
#pragma once

#include <sys/event.h>
#include <time.h>  // NOLINT(modernize-deprecated-headers): timespec is not in every <ctime>

namespace zloop::sys {

using KernelEvent = struct ::kevent;

// Close-on-exec, and the caller's; or -errno.
int open_kqueue() noexcept;

// 0 or -errno: the kernel stops at the first change that fails.
int change_kqueue(int queue, const KernelEvent* changes, int count) noexcept;

// How many events there are, or -errno. Without a timeout it waits without end.
int wait_kqueue(int queue, KernelEvent* events, int capacity, const timespec* timeout) noexcept;

}  // namespace zloop::sys
