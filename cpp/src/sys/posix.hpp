// Declarations that the files of this folder share.
#pragma once

#include <cerrno>
#include <cstddef>

namespace zloop::sys {

// The flag of send(2) that prevents SIGPIPE; 0 where a socket option does that.
extern const int no_sigpipe_flag;

// Tells the kernel to clear whole pages of private memory in the child of every fork(2). True if it will.
bool clear_on_fork(void* pages, std::size_t size) noexcept;

// Repeats a call until no signal interrupts it, and returns -errno in place of -1.
template <typename Call>
auto retrying(Call call) noexcept -> decltype(call()) {
  for (;;) {
    const auto result = call();
    if (result >= 0) return result;
    if (errno != EINTR) return static_cast<decltype(call())>(-errno);
  }
}

}  // namespace zloop::sys
