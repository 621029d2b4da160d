// The engine's system calls on Linux, as far as they are not posix.cpp's.
#include <sys/eventfd.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <array>
#include <cassert>
#include <cerrno>

#include "posix.hpp"
#include "zloop/sys.hpp"

namespace zloop::sys {

namespace {

// A call's datagrams, as recvmmsg(2) and sendmmsg(2) have them; they refer to `packets`.
using Headers = std::array<mmsghdr, packets_max>;

void describe(Headers& headers, Packet* packets, int count, bool receiving) noexcept {
  assert(count > 0 && count <= packets_max);
  for (int i = 0; i < count; ++i) {
    Packet& packet = packets[i];
    msghdr header{};
    header.msg_name = packet.peer;
    header.msg_namelen = receiving ? socklen_t{sizeof(sockaddr_storage)} : packet.peer_size;
    header.msg_iov = &packet.memory;
    header.msg_iovlen = 1;
    headers[static_cast<std::size_t>(i)] = {.msg_hdr = header, .msg_len = 0};
  }
}

}  // namespace

const int no_sigpipe_flag = MSG_NOSIGNAL;

void prepare_socket(int /*fd*/) noexcept {}

int receive_packets(int fd, Packet* packets, int count) noexcept {
  Headers headers;  // NOLINT(*-member-init): describe() fills what is used
  describe(headers, packets, count, true);
  const int received =
      retrying([&] { return ::recvmmsg(fd, headers.data(), static_cast<unsigned>(count), MSG_DONTWAIT, nullptr); });
  for (int i = 0; i < received; ++i) {
    const mmsghdr& header = headers[static_cast<std::size_t>(i)];
    packets[i].memory.iov_len = header.msg_len;
    packets[i].peer_size = header.msg_hdr.msg_namelen;
  }
  return received;
}

int send_packets(int fd, const Packet* packets, int count) noexcept {
  Headers headers;                                                // NOLINT(*-member-init): as above
  describe(headers, const_cast<Packet*>(packets), count, false);  // sendmmsg(2) only reads them
  return retrying(
      [&] { return ::sendmmsg(fd, headers.data(), static_cast<unsigned>(count), MSG_DONTWAIT | MSG_NOSIGNAL); });
}

// Not write(2) by its own name: sanitizers put themselves in front of that.
ssize_t write_unchecked(int fd, const void* data, std::size_t size) noexcept {
  return retrying([&] { return static_cast<ssize_t>(::syscall(SYS_write, fd, data, size)); });
}

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

// accept(2) passes on the network's errors of the new connection.
bool failed_before_accept(int error) noexcept {
  switch (error) {
    case ECONNABORTED:
    case EPROTO:
    case ENETDOWN:
    case ENOPROTOOPT:
    case EHOSTDOWN:
    case ENONET:
    case EHOSTUNREACH:
    case EOPNOTSUPP:
    case ENETUNREACH:
      return true;
    default:
      return false;
  }
}

int open_wakeup(int* read_end, int* write_end) noexcept {
  const int fd = ::eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
  if (fd < 0) return -errno;
  *read_end = *write_end = fd;
  return 0;
}

const bool has_abstract_names = true;

}  // namespace zloop::sys
