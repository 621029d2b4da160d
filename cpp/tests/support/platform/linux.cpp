// Linux: the interposer's calls, by the linker's --wrap.
#include <sys/epoll.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>

#include "support/interposer.hpp"
#include "support/platform.hpp"

namespace zloop {

// The kqueue backend's, under another name: ../fake_kqueue/.
std::unique_ptr<Poller> make_kqueue_poller() noexcept;

}  // namespace zloop

namespace zloop::test {

const clockid_t monotonic_clock = CLOCK_MONOTONIC;

const bool sends_batches = true;

#ifdef __GLIBC__
const bool exit_unwinds = true;
#else
const bool exit_unwinds = false;
#endif

std::vector<PollerBackend> poller_backends() {
  return {{.name = "epoll", .make = &make_poller}, {.name = "kqueue, on a fake", .make = &make_kqueue_poller}};
}

std::vector<int> stillborn_errors() {
  return {ECONNABORTED, EPROTO, ENETDOWN, ENOPROTOOPT, EHOSTDOWN, ENONET, EHOSTUNREACH, EOPNOTSUPP, ENETUNREACH};
}

namespace {

// musl makes sendmmsg(2) of sendmsg(2).
thread_local bool in_batch = false;  // NOLINT(cppcoreguidelines-avoid-non-const-global-variables): it nests by calls

}  // namespace

}  // namespace zloop::test

using zloop::test::in_batch;
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
ssize_t __real_sendto(int fd, const void* data, std::size_t size, int flags, const sockaddr* peer, socklen_t peer_size);

int __wrap_accept4(int fd, sockaddr* address, socklen_t* size, int flags) {
  return Interposer::fails(&Interposer::accept) ? -1 : __real_accept4(fd, address, size, flags);
}

int __wrap_epoll_ctl(int epoll_fd, int operation, int fd, epoll_event* event) {
  return Interposer::fails(&Interposer::poller_control) ? -1 : __real_epoll_ctl(epoll_fd, operation, fd, event);
}

int __wrap_recvmmsg(int fd, mmsghdr* messages, unsigned count, int flags, timespec* timeout) {
  return Interposer::fails(&Interposer::receive) ? -1 : __real_recvmmsg(fd, messages, count, flags, timeout);
}

int __wrap_sendmmsg(int fd, mmsghdr* messages, unsigned count, int flags) {
  if (Interposer::fails(&Interposer::send)) return -1;
  in_batch = true;
  const int sent = __real_sendmmsg(fd, messages, count, flags);
  in_batch = false;
  return sent;
}

ssize_t __wrap_recv(int fd, void* data, std::size_t size, int flags) {
  return Interposer::fails(&Interposer::receive) ? -1 : __real_recv(fd, data, size, flags);
}

ssize_t __wrap_send(int fd, const void* data, std::size_t size, int flags) {
  if (Interposer::fails(&Interposer::send)) return -1;
  return __real_send(fd, data, std::min(size, Interposer::limit()), flags);
}

ssize_t __wrap_sendmsg(int fd, const msghdr* message, int flags) {
  if (in_batch) return __real_sendmsg(fd, message, flags);
  if (Interposer::fails(&Interposer::send)) return -1;
  std::vector<iovec> vectors = Interposer::first_bytes(*message);
  msghdr shortened = *message;
  shortened.msg_iov = vectors.data();
  shortened.msg_iovlen = static_cast<decltype(shortened.msg_iovlen)>(vectors.size());
  return __real_sendmsg(fd, &shortened, flags);
}

// Some C libraries make send(2) of it.
ssize_t __wrap_sendto(int fd, const void* data, std::size_t size, int flags, const sockaddr* peer,
                      socklen_t peer_size) {
  if (peer != nullptr && Interposer::fails(&Interposer::send)) return -1;
  return __real_sendto(fd, data, size, flags, peer, peer_size);
}

}  // extern "C"
// NOLINTEND(bugprone-reserved-identifier,cert-dcl37-c,cert-dcl51-cpp,readability-identifier-naming)
