// What the files of this folder share.
#pragma once

#include <cerrno>
#include <cstddef>

namespace zloop::sys {

// The flag of send(2) by which a peer that is gone raises no signal; 0 where sockets have an option for that.
extern const int no_sigpipe_flag;

// Has the kernel clear whole pages of private memory in the child of every fork(2). Whether it will.
bool clear_on_fork(void* pages, std::size_t size) noexcept;

// Runs a call until no signal interrupts it, and turns -1 into -errno.
template <typename Call>
auto retrying(Call call) noexcept -> decltype(call()) {
  for (;;) {
    const auto result = call();
    if (result >= 0) return result;
    if (errno != EINTR) return static_cast<decltype(call())>(-errno);
  }
}

}  // namespace zloop::sys
