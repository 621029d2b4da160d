// The engine's system calls on macOS, except for those in posix.cpp. macOS has no call that makes a descriptor which is
// close-on-exec from the start.
#include <fcntl.h>
#include <unistd.h>

#include <array>
#include <cerrno>

#include "mmsg_fallback.hpp"
#include "posix.hpp"
#include "zloop/sys.hpp"

namespace zloop::sys {

namespace {

int set_flags(int fd) noexcept {
  return ::fcntl(fd, F_SETFD, FD_CLOEXEC) == 0 && ::fcntl(fd, F_SETFL, O_NONBLOCK) == 0 ? 0 : -errno;
}

// Sets the flags and options of a new socket and returns it; or closes it and returns -errno.
int prepared(int fd) noexcept {
  if (const int status = set_flags(fd); status < 0) {
    close(fd);
    return status;
  }
  prepare_socket(fd);
  return fd;
}

}  // namespace

const int no_sigpipe_flag = 0;

// setsockopt(2) fails if the peer is already gone. A write can raise SIGPIPE then, as for a pipe.
void prepare_socket(int fd) noexcept {
  const int on = 1;
  ::setsockopt(fd, SOL_SOCKET, SO_NOSIGPIPE, &on, sizeof(on));
}

int receive_packets(int fd, Packet* packets, int count) noexcept { return receive_mmsg_fallback(fd, packets, count); }

int send_packets(int fd, const Packet* packets, int count) noexcept { return send_mmsg_fallback(fd, packets, count); }

ssize_t write_unchecked(int fd, const void* data, std::size_t size) noexcept { return write(fd, data, size); }

int open_socket(int family, int type, int protocol) noexcept {
  const int fd = ::socket(family, type, protocol);
  return fd < 0 ? -errno : prepared(fd);
}

int accept(int listener, sockaddr_storage* peer, socklen_t* peer_size) noexcept {
  const int fd = retrying([&] {
    *peer_size = sizeof(*peer);
    return ::accept(listener, reinterpret_cast<sockaddr*>(peer), peer_size);
  });
  return fd < 0 ? fd : prepared(fd);
}

bool failed_before_accept(int error) noexcept { return error == ECONNABORTED; }

int open_wakeup(int* read_end, int* write_end) noexcept {
  std::array<int, 2> ends{};
  if (::pipe(ends.data()) < 0) return -errno;
  for (const int end : ends) {
    if (const int status = set_flags(end); status < 0) {
      close(ends[0]);
      close(ends[1]);
      return status;
    }
  }
  *read_end = ends[0];
  *write_end = ends[1];
  return 0;
}

// macOS has no memory that a fork clears.
bool clear_on_fork(void* /*pages*/, std::size_t /*size*/) noexcept { return false; }

const bool has_abstract_names = false;

}  // namespace zloop::sys
