// The engine's system calls on Linux.
#include <fcntl.h>
#include <pthread.h>
#include <unistd.h>

#include <atomic>
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

std::atomic<unsigned> generation{0};

void on_fork_in_child() noexcept { generation.fetch_add(1, std::memory_order_relaxed); }

// Fails only without memory for one entry, when the library is loaded; forks go unnoticed then.
[[maybe_unused]] const int fork_handler_status = pthread_atfork(nullptr, nullptr, &on_fork_in_child);

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
