// The engine's system calls on Linux.
#include <fcntl.h>
#include <pthread.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cassert>
#include <cerrno>

#include "zloop/sys.hpp"

namespace zloop::sys {

namespace {

// Runs a call until no signal interrupts it, and turns -1 into -errno.
template <typename Call>
auto retrying(Call call) noexcept -> decltype(call()) {
  for (;;) {
    const auto result = call();
    if (result >= 0) return result;
    if (errno != EINTR) return static_cast<decltype(call())>(-errno);
  }
}

std::atomic<unsigned> generation{0};  // NOLINT(*-non-const-global-variables): the handler takes no argument

void on_fork_in_child() noexcept { generation.fetch_add(1, std::memory_order_relaxed); }

// Fails only without memory for one entry, when the library is loaded; forks go unnoticed then.
[[maybe_unused]] const int fork_handler_status = pthread_atfork(nullptr, nullptr, &on_fork_in_child);

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

ssize_t recv(int fd, void* data, std::size_t size) noexcept {
  return retrying([&] { return ::recv(fd, data, size, 0); });
}

ssize_t send(int fd, const void* data, std::size_t size) noexcept {
  return retrying([&] { return ::send(fd, data, size, MSG_NOSIGNAL); });
}

ssize_t sendv(int fd, const iovec* vectors, int count) noexcept {
  msghdr message{};
  message.msg_iov = const_cast<iovec*>(vectors);  // sendmsg(2) only reads them
  message.msg_iovlen = static_cast<std::size_t>(count);
  return retrying([&] { return ::sendmsg(fd, &message, MSG_NOSIGNAL); });
}

ssize_t read(int fd, void* data, std::size_t size) noexcept {
  return retrying([&] { return ::read(fd, data, size); });
}

ssize_t write(int fd, const void* data, std::size_t size) noexcept {
  return retrying([&] { return ::write(fd, data, size); });
}

ssize_t writev(int fd, const iovec* vectors, int count) noexcept {
  return retrying([&] { return ::writev(fd, vectors, count); });
}

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

int accept(int listener, sockaddr_storage* peer, socklen_t* peer_size) noexcept {
  return retrying([&] {
    *peer_size = sizeof(*peer);
    return ::accept4(listener, reinterpret_cast<sockaddr*>(peer), peer_size, SOCK_NONBLOCK | SOCK_CLOEXEC);
  });
}

int shutdown_write(int fd) noexcept { return ::shutdown(fd, SHUT_WR) == 0 ? 0 : -errno; }

int check_open(int fd) noexcept { return ::fcntl(fd, F_GETFD) >= 0 ? 0 : -errno; }

unsigned fork_generation() noexcept { return generation.load(std::memory_order_relaxed); }

int close(int fd) noexcept { return ::close(fd) == 0 ? 0 : -errno; }

}  // namespace zloop::sys
