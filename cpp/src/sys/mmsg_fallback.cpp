#include "mmsg_fallback.hpp"

#include <sys/ioctl.h>

#include <cassert>
#include <cerrno>

#include "posix.hpp"
#include "zloop/sys.hpp"

namespace zloop::sys {

namespace {

msghdr describe(const Packet& packet) noexcept {
  msghdr message{};
  message.msg_name = packet.peer;
  message.msg_namelen = packet.peer_size;
  message.msg_iov = const_cast<iovec*>(&packet.memory);  // neither call writes to it
  message.msg_iovlen = 1;
  return message;
}

// True if a datagram is pending. An empty datagram counts only where FIONREAD includes the sender's address; elsewhere
// it waits for another call.
bool has_bytes(int fd) noexcept {
  int bytes = 0;
  return ::ioctl(fd, FIONREAD, &bytes) == 0 && bytes > 0;
}

int receive_packet(int fd, Packet& packet) noexcept {
  msghdr message = describe(packet);
  const ssize_t size = retrying([&] {
    message.msg_namelen = sizeof(sockaddr_storage);
    return ::recvmsg(fd, &message, MSG_DONTWAIT);
  });
  if (size < 0) return static_cast<int>(size);
  packet.memory.iov_len = static_cast<std::size_t>(size);
  packet.peer_size = message.msg_namelen;
  return 0;
}

int send_packet(int fd, const Packet& packet) noexcept {
  const msghdr message = describe(packet);
  const ssize_t size = retrying([&] { return ::sendmsg(fd, &message, MSG_DONTWAIT | no_sigpipe_flag); });
  return size < 0 ? static_cast<int>(size) : 0;
}

}  // namespace

// The first recvmsg(2) may return an error. After that, it is called only if a datagram is pending: when all datagrams
// are taken, the kernel would report an error once, and this function could not return it.
int receive_mmsg_fallback(int fd, Packet* packets, int count) noexcept {
  assert(count > 0 && count <= packets_max);
  for (int done = 0; done < count; ++done) {
    if (done > 0 && !has_bytes(fd)) return done;
    const int status = receive_packet(fd, packets[done]);
    if (status < 0) return done > 0 ? done : status;
  }
  return count;
}

int send_mmsg_fallback(int fd, const Packet* packets, int count) noexcept {
  assert(count > 0 && count <= packets_max);
  for (int done = 0; done < count; ++done) {
    const int status = send_packet(fd, packets[done]);
    if (status < 0) return done > 0 ? done : status;
  }
  return count;
}

}  // namespace zloop::sys
