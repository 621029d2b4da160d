#include <sys/epoll.h>

#include <charconv>
#include <cstddef>
#include <cstdint>
#include <fstream>
#include <ios>
#include <sstream>
#include <string>
#include <vector>

#include "zloop/poller.hpp"
#include "zloop/poller_entries.hpp"

namespace zloop {

namespace {

unsigned interest_of(std::uint32_t events) noexcept {
  return ((events & EPOLLIN) != 0 ? unsigned{interest_read} : 0U) |
         ((events & EPOLLOUT) != 0 ? unsigned{interest_write} : 0U) |
         ((events & EPOLLONESHOT) != 0 ? unsigned{interest_once} : 0U) |
         ((events & EPOLLEXCLUSIVE) != 0 ? unsigned{interest_exclusive} : 0U);
}

}  // namespace

// Parses lines such as "tfd:        5 events: 40000019 data:                5  pos:0 ino:12d0b8 sdev:9". The kernels
// before 4.13 write no inode.
bool read_poller_entries(int poller_fd, std::vector<PollerEntry>& entries) {
  std::ifstream lines("/proc/self/fdinfo/" + std::to_string(poller_fd));
  if (!lines.is_open()) return false;
  for (std::string line; std::getline(lines, line);) {
    if (!line.starts_with("tfd:")) continue;
    std::istringstream words(line);
    std::string label;
    std::uint32_t events = 0;
    PollerEntry entry{.fd = -1, .interest = interest_none, .token = 0, .inode = 0};
    words >> label >> std::dec >> entry.fd >> label >> std::hex >> events >> label >> entry.token;
    if (words.fail()) return false;
    entry.interest = interest_of(events);
    constexpr std::size_t label_size = 4;
    if (const auto inode = line.find("ino:"); inode != std::string::npos) {
      const char* digits = line.data() + inode + label_size;
      std::from_chars(digits, line.data() + line.size(), entry.inode, 16);
    }
    entries.push_back(entry);
  }
  return lines.eof();  // a stream turns std::bad_alloc into a failure
}

}  // namespace zloop
