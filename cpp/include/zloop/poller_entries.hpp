// What an epoll instance watches, as the kernel reports it in /proc/PID/fdinfo (proc(5)). For checks and tests: a loop
// does not need it. Linux only.
#pragma once

#include <cstdint>
#include <vector>

namespace zloop {

struct PollerEntry {
  int fd;             // the number by which the descriptor was added; it may refer to another file now
  unsigned interest;  // Interest bits; only interest_once: disabled
  std::uint64_t token;
  std::uint64_t inode;  // of the file; the files of some kinds, such as eventfds, all have the same
};

// Stores the entries. False if the kernel's report cannot be read: no descriptor is left, or /proc is not mounted.
// Throws std::bad_alloc.
[[nodiscard]] bool read_poller_entries(int poller_fd, std::vector<PollerEntry>& entries);

}  // namespace zloop
