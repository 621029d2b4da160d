// A seam between the engine and the kernel, made by the linker: while an Interposer lives, it decides what happens to
// some system calls. read(2) and write(2) pass it by, so tests use these for the other side. How the seam is made is
// the platform's: support/platform/.
#pragma once

#include <sys/socket.h>
#include <sys/uio.h>

#include <cstddef>
#include <cstdint>
#include <deque>
#include <limits>
#include <vector>

namespace zloop::test {

// How much of what it could move a call moves.
enum class Cut : std::uint8_t { none, to_half, to_one };

// What happens to one call, counted from 1, and to those right behind it.
struct Fault {
  int first = 0;  // none
  int times = 1;  // in a row
  int error = 0;  // they fail with it and do nothing; 0: they are cut short
  Cut cut = Cut::none;
};

// Main thread only; one at a time.
class Interposer {
 public:
  struct Call {
    std::deque<int> errors;  // the next calls fail with these, one each, and do nothing; of 0, they are made
    Fault fault;
    int count = 0;  // calls made, failed ones included

    [[nodiscard]] bool is_faulty() const noexcept { return count >= fault.first && count < fault.first + fault.times; }
  };

  Interposer() noexcept;
  ~Interposer();
  Interposer(const Interposer&) = delete;
  Interposer& operator=(const Interposer&) = delete;

  Call send;     // send(2), sendto(2), sendmsg(2) and sendmmsg(2)
  Call receive;  // recv(2), recvmsg(2) and recvmmsg(2)
  Call accept;
  Call poller_control;  // what changes an interest
  // On Linux, where the kernel is made to agree with the errors of these: what it does not know, by such an answer, it
  // forgets.
  Call poller_add;
  Call poller_modify;
  Call poller_remove;
  Call poller_wait;
  Call poller_open;
  Call wakeup_open;
  Call wakeup_write;
  // On Linux: where read(2), write(2) and writev(2) are the engine's, and count as receiving and sending.
  std::vector<int> pipes;
  int wakeup = -1;                                                   // the engine's that was made last
  std::size_t send_limit = std::numeric_limits<std::size_t>::max();  // bytes one call takes of a stream

  // For the platform's half.

  // Counts a call and says whether it is to fail; errno is set then.
  static bool fails(Call Interposer::* which);
  // How much of that the call that was counted last moves.
  static std::size_t allowed(Call Interposer::* which, std::size_t size) noexcept;
  static std::vector<iovec> first_bytes(const iovec* vectors, std::size_t count);  // as many as that call sends
  static bool is_pipe(int fd) noexcept;                                            // one of `pipes`
  static void note_wakeup(int fd) noexcept;
  static bool is_wakeup(int fd) noexcept;
};

}  // namespace zloop::test
