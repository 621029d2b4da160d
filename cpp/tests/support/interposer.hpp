// A layer between the engine and the kernel, made by the linker: during its lifetime, an Interposer decides the results
// of some system calls. read(2) and write(2) are not interposed (except for `pipes` and `wakeup`), so tests use them
// for the peer's end. support/platform/ implements the layer for each platform.
#pragma once

#include <sys/socket.h>
#include <sys/uio.h>

#include <cstddef>
#include <cstdint>
#include <deque>
#include <limits>
#include <vector>

namespace zloop::test {

// How much of the possible data a call transfers.
enum class Cut : std::uint8_t { none, to_half, to_one };

// The fault of one call, counted from 1, and of those that directly follow.
struct Fault {
  int first = 0;  // 0: no fault
  int times = 1;  // consecutive calls
  int error = 0;  // the calls fail with it and do nothing; 0: they transfer less
  Cut cut = Cut::none;
};

// Main thread only; one at a time.
class Interposer {
 public:
  struct Call {
    std::deque<int> errors;  // the next calls fail with these, one each, and do nothing; 0: the call is made
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
  // Every call that changes an interest. On Linux the kernel is made to agree with the errors of this call and of the
  // next three: after EEXIST it has an entry, and after ENOENT, EBADF or a removal it has none.
  Call poller_control;
  // Linux only.
  Call poller_add;
  Call poller_modify;
  Call poller_remove;
  Call poller_wait;
  Call poller_open;
  Call wakeup_open;
  Call wakeup_write;
  Call memory_map;     // mmap(2)
  Call memory_advise;  // madvise(2)
  Call memory_unmap;   // munmap(2): counted, and always made
  // Linux only: descriptors whose read(2), write(2) and writev(2) belong to the engine, and count as receiving and
  // sending.
  std::vector<int> pipes;
  int wakeup = -1;                                                   // the one that the engine opened last
  std::size_t send_limit = std::numeric_limits<std::size_t>::max();  // bytes of a stream that one call takes at most

  // ---- For support/platform/.

  // Counts a call. True if it has to fail; errno is set then.
  static bool fails(Call Interposer::* which);
  // How much of `size` the call that was counted last transfers.
  static std::size_t allowed(Call Interposer::* which, std::size_t size) noexcept;
  static std::vector<iovec> first_bytes(const iovec* vectors, std::size_t count);  // as many as that call sends
  static bool is_pipe(int fd) noexcept;                                            // one of `pipes`
  static void note_wakeup(int fd) noexcept;
  static bool is_wakeup(int fd) noexcept;
};

}  // namespace zloop::test
