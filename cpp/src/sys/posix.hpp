// What the files of this folder share.
#pragma once

#include <cerrno>

namespace zloop::sys {

// The flag of send(2) by which a peer that is gone raises no signal; 0 where sockets have an option for that.
extern const int no_sigpipe_flag;

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
