// The BSDs: the interposer's system calls, with the linker's option --wrap.
#include <sys/event.h>
#include <sys/socket.h>

#include <cerrno>

#include "support/interposer.hpp"
#include "support/platform.hpp"

namespace zloop::test {

const clockid_t monotonic_clock = CLOCK_MONOTONIC;

const bool sends_batches = false;

const bool exit_unwinds = false;

std::vector<PollerBackend> poller_backends() { return {{.name = "kqueue", .make = &make_poller}}; }

std::vector<int> errors_before_accept() { return {ECONNABORTED}; }

}  // namespace zloop::test

using zloop::test::Interposer;

// NOLINTBEGIN(bugprone-reserved-identifier,cert-dcl37-c,cert-dcl51-cpp,readability-identifier-naming): the names
// that the linker requires.
extern "C" {

int __real_accept4(int fd, sockaddr* address, socklen_t* size, int flags);
int __real_kevent(int queue, const struct kevent* changes, int changes_count, struct kevent* events, int events_count,
                  const timespec* timeout);
ssize_t __real_recv(int fd, void* data, std::size_t size, int flags);
ssize_t __real_recvmsg(int fd, msghdr* message, int flags);
ssize_t __real_send(int fd, const void* data, std::size_t size, int flags);
ssize_t __real_sendmsg(int fd, const msghdr* message, int flags);
ssize_t __real_sendto(int fd, const void* data, std::size_t size, int flags, const sockaddr* peer, socklen_t peer_size);

int __wrap_accept4(int fd, sockaddr* address, socklen_t* size, int flags) {
  return Interposer::fails(&Interposer::accept) ? -1 : __real_accept4(fd, address, size, flags);
}

int __wrap_kevent(int queue, const struct kevent* changes, int changes_count, struct kevent* events, int events_count,
                  const timespec* timeout) {
  if (changes_count > 0 && Interposer::fails(&Interposer::poller_control)) return -1;
  return __real_kevent(queue, changes, changes_count, events, events_count, timeout);
}

ssize_t __wrap_recvmsg(int fd, msghdr* message, int flags) {
  return Interposer::fails(&Interposer::receive) ? -1 : __real_recvmsg(fd, message, flags);
}

ssize_t __wrap_recv(int fd, void* data, std::size_t size, int flags) {
  return Interposer::fails(&Interposer::receive) ? -1 : __real_recv(fd, data, size, flags);
}

ssize_t __wrap_send(int fd, const void* data, std::size_t size, int flags) {
  if (Interposer::fails(&Interposer::send)) return -1;
  return __real_send(fd, data, Interposer::allowed(&Interposer::send, size), flags);
}

ssize_t __wrap_sendmsg(int fd, const msghdr* message, int flags) {
  if (Interposer::fails(&Interposer::send)) return -1;
  std::vector<iovec> vectors = Interposer::first_bytes(message->msg_iov, static_cast<std::size_t>(message->msg_iovlen));
  msghdr shortened = *message;
  shortened.msg_iov = vectors.data();
  shortened.msg_iovlen = static_cast<decltype(shortened.msg_iovlen)>(vectors.size());
  return __real_sendmsg(fd, &shortened, flags);
}

// Some C libraries implement send(2) with it.
ssize_t __wrap_sendto(int fd, const void* data, std::size_t size, int flags, const sockaddr* peer,
                      socklen_t peer_size) {
  if (peer != nullptr && Interposer::fails(&Interposer::send)) return -1;
  return __real_sendto(fd, data, size, flags, peer, peer_size);
}

}  // extern "C"
// NOLINTEND(bugprone-reserved-identifier,cert-dcl37-c,cert-dcl51-cpp,readability-identifier-naming)
