// The engine's system calls on the BSDs, except for those in posix.cpp.
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <array>
#include <cerrno>

#include "mmsg_fallback.hpp"
#include "posix.hpp"
#include "zloop/sys.hpp"

namespace zloop::sys {

const int no_sigpipe_flag = MSG_NOSIGNAL;

void prepare_socket(int /*fd*/) noexcept {}

int receive_packets(int fd, Packet* packets, int count) noexcept { return receive_mmsg_fallback(fd, packets, count); }

int send_packets(int fd, const Packet* packets, int count) noexcept { return send_mmsg_fallback(fd, packets, count); }

ssize_t write_unchecked(int fd, const void* data, std::size_t size) noexcept { return write(fd, data, size); }

int open_socket(int family, int type, int protocol) noexcept {
  const int fd = ::socket(family, type | SOCK_NONBLOCK | SOCK_CLOEXEC, protocol);
  return fd < 0 ? -errno : fd;
}

int accept(int listener, sockaddr_storage* peer, socklen_t* peer_size) noexcept {
  return retrying([&] {
    *peer_size = sizeof(*peer);
    return ::accept4(listener, reinterpret_cast<sockaddr*>(peer), peer_size, SOCK_NONBLOCK | SOCK_CLOEXEC);
  });
}

bool failed_before_accept(int error) noexcept { return error == ECONNABORTED; }

int open_wakeup(int* read_end, int* write_end) noexcept {
  std::array<int, 2> ends{};
  if (::pipe2(ends.data(), O_NONBLOCK | O_CLOEXEC) < 0) return -errno;
  *read_end = ends[0];
  *write_end = ends[1];
  return 0;
}

// NetBSD has another name for the flag of minherit(2).
bool clear_on_fork([[maybe_unused]] void* pages, [[maybe_unused]] std::size_t size) noexcept {
#if defined(INHERIT_ZERO)
  return ::minherit(pages, size, INHERIT_ZERO) == 0;
#elif defined(MAP_INHERIT_ZERO)
  return ::minherit(pages, size, MAP_INHERIT_ZERO) == 0;
#else
  return false;
#endif
}

const bool has_abstract_names = false;

}  // namespace zloop::sys
