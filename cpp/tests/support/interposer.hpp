// A seam between the engine and the kernel, made by the linker: while an Interposer lives, it decides what happens to
// some system calls. read(2) and write(2) pass it by, so tests use these for the other side. How the seam is made is
// the platform's: support/platform/.
#pragma once

#include <sys/socket.h>
#include <sys/uio.h>

#include <cstddef>
#include <deque>
#include <limits>
#include <vector>

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

  Call send;     // send(2), sendto(2), sendmsg(2) and sendmmsg(2)
  Call receive;  // recv(2), recvmsg(2) and recvmmsg(2)
  Call accept;
  Call poller_control;                                               // what changes an interest
  std::size_t send_limit = std::numeric_limits<std::size_t>::max();  // bytes one call takes of a stream

  // For the platform's half.

  // Counts a call and says whether it is to fail; errno is set then.
  static bool fails(Call Interposer::* which);
  static std::size_t limit() noexcept;
  static std::vector<iovec> first_bytes(const msghdr& message);  // as many as one call takes
};

}  // namespace zloop::test
