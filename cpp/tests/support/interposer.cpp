#include "support/interposer.hpp"

#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include <algorithm>
#include <cerrno>
#include <vector>

namespace zloop::test {

namespace {

Interposer* current = nullptr;  // NOLINT(cppcoreguidelines-avoid-non-const-global-variables): as there is one kernel

// Counts a call and says whether it is to fail; errno is set then.
bool fails(Interposer::Call Interposer::* which) {
  if (current == nullptr) return false;
  Interposer::Call& call = current->*which;
  ++call.count;
  if (call.errors.empty()) return false;
  errno = call.errors.front();
  call.errors.pop_front();
  return true;
}

std::size_t send_limit() noexcept {
  return current == nullptr ? std::numeric_limits<std::size_t>::max() : current->send_limit;
}

std::vector<iovec> first_bytes(const msghdr& message, std::size_t limit) {
  std::vector<iovec> vectors;
  for (std::size_t i = 0; i < message.msg_iovlen && limit > 0; ++i) {
    const std::size_t size = std::min(limit, message.msg_iov[i].iov_len);
    vectors.push_back({.iov_base = message.msg_iov[i].iov_base, .iov_len = size});
    limit -= size;
  }
  return vectors;
}

}  // namespace

Interposer::Interposer() noexcept { current = this; }
Interposer::~Interposer() { current = nullptr; }

}  // namespace zloop::test

using zloop::test::fails;
using zloop::test::Interposer;

// NOLINTBEGIN(bugprone-reserved-identifier,cert-dcl37-c,cert-dcl51-cpp,readability-identifier-naming): the names that
// the linker gives.
extern "C" {

int __real_accept4(int fd, sockaddr* address, socklen_t* size, int flags);
int __real_epoll_ctl(int epoll_fd, int operation, int fd, epoll_event* event);
ssize_t __real_recv(int fd, void* data, std::size_t size, int flags);
int __real_recvmmsg(int fd, mmsghdr* messages, unsigned count, int flags, timespec* timeout);
ssize_t __real_send(int fd, const void* data, std::size_t size, int flags);
int __real_sendmmsg(int fd, mmsghdr* messages, unsigned count, int flags);
ssize_t __real_sendmsg(int fd, const msghdr* message, int flags);

int __wrap_accept4(int fd, sockaddr* address, socklen_t* size, int flags) {
  return fails(&Interposer::accept) ? -1 : __real_accept4(fd, address, size, flags);
}

int __wrap_epoll_ctl(int epoll_fd, int operation, int fd, epoll_event* event) {
  return fails(&Interposer::epoll_control) ? -1 : __real_epoll_ctl(epoll_fd, operation, fd, event);
}

ssize_t __wrap_recv(int fd, void* data, std::size_t size, int flags) {
  return fails(&Interposer::receive) ? -1 : __real_recv(fd, data, size, flags);
}

int __wrap_recvmmsg(int fd, mmsghdr* messages, unsigned count, int flags, timespec* timeout) {
  return fails(&Interposer::receive) ? -1 : __real_recvmmsg(fd, messages, count, flags, timeout);
}

ssize_t __wrap_send(int fd, const void* data, std::size_t size, int flags) {
  if (fails(&Interposer::send)) return -1;
  return __real_send(fd, data, std::min(size, zloop::test::send_limit()), flags);
}

int __wrap_sendmmsg(int fd, mmsghdr* messages, unsigned count, int flags) {
  return fails(&Interposer::send) ? -1 : __real_sendmmsg(fd, messages, count, flags);
}

ssize_t __wrap_sendmsg(int fd, const msghdr* message, int flags) {
  if (fails(&Interposer::send)) return -1;
  std::vector<iovec> vectors = zloop::test::first_bytes(*message, zloop::test::send_limit());
  msghdr shortened = *message;
  shortened.msg_iov = vectors.data();
  shortened.msg_iovlen = vectors.size();
  return __real_sendmsg(fd, &shortened, flags);
}

}  // extern "C"
// NOLINTEND(bugprone-reserved-identifier,cert-dcl37-c,cert-dcl51-cpp,readability-identifier-naming)
