// A seam between the engine and the kernel, made by the linker (--wrap): while an Interposer lives, it decides what
// happens to some system calls. read(2) and write(2) pass it by, so tests use these for the other side.
#pragma once

#include <cstddef>
#include <deque>
#include <limits>

namespace zloop::test {

// Main thread only; one at a time.
class Interposer {
 public:
  struct Call {
    std::deque<int> errors;  // the next calls fail with these, one each, and do nothing
    int count = 0;           // calls made, failed ones included
  };

  Interposer() noexcept;
  ~Interposer();
  Interposer(const Interposer&) = delete;
  Interposer& operator=(const Interposer&) = delete;

  Call send;     // send(2), sendmsg(2) and sendmmsg(2)
  Call receive;  // recv(2) and recvmmsg(2)
  Call accept;
  Call epoll_control;
  std::size_t send_limit = std::numeric_limits<std::size_t>::max();  // bytes one call takes, but for sendmmsg(2)
};

}  // namespace zloop::test
