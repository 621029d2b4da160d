// macOS: the interposer's system calls. The linker has no --wrap, but a function that the executable defines takes
// precedence over the system's, and the engine is part of the executable.
#include <dlfcn.h>
#include <sys/event.h>
#include <sys/socket.h>

#include <cerrno>

#include "support/interposer.hpp"
#include "support/platform.hpp"

namespace zloop::test {

const clockid_t monotonic_clock = CLOCK_UPTIME_RAW;

const bool sends_batches = false;

const bool exit_unwinds = false;

std::vector<PollerBackend> poller_backends() { return {{.name = "kqueue", .make = &make_poller}}; }

std::vector<int> errors_before_accept() { return {ECONNABORTED}; }

namespace {

// The system's own function of this name.
template <typename Function>
Function real(const char* name) {
  return reinterpret_cast<Function>(::dlsym(RTLD_NEXT, name));
}

}  // namespace

}  // namespace zloop::test

using zloop::test::Interposer;
using zloop::test::real;

extern "C" {

int accept(int fd, sockaddr* address, socklen_t* size) {
  return Interposer::fails(&Interposer::accept) ? -1 : real<decltype(&::accept)>("accept")(fd, address, size);
}

int kevent(int queue, const struct kevent* changes, int changes_count, struct kevent* events, int events_count,
           const timespec* timeout) {
  if (changes_count > 0 && Interposer::fails(&Interposer::poller_control)) return -1;
  return real<decltype(&::kevent)>("kevent")(queue, changes, changes_count, events, events_count, timeout);
}

ssize_t recvmsg(int fd, msghdr* message, int flags) {
  return Interposer::fails(&Interposer::receive) ? -1 : real<decltype(&::recvmsg)>("recvmsg")(fd, message, flags);
}

ssize_t recv(int fd, void* data, std::size_t size, int flags) {
  return Interposer::fails(&Interposer::receive) ? -1 : real<decltype(&::recv)>("recv")(fd, data, size, flags);
}

ssize_t send(int fd, const void* data, std::size_t size, int flags) {
  if (Interposer::fails(&Interposer::send)) return -1;
  return real<decltype(&::send)>("send")(fd, data, Interposer::allowed(&Interposer::send, size), flags);
}

ssize_t sendmsg(int fd, const msghdr* message, int flags) {
  if (Interposer::fails(&Interposer::send)) return -1;
  std::vector<iovec> vectors = Interposer::first_bytes(message->msg_iov, static_cast<std::size_t>(message->msg_iovlen));
  msghdr shortened = *message;
  shortened.msg_iov = vectors.data();
  shortened.msg_iovlen = static_cast<decltype(shortened.msg_iovlen)>(vectors.size());
  return real<decltype(&::sendmsg)>("sendmsg")(fd, &shortened, flags);
}

ssize_t sendto(int fd, const void* data, std::size_t size, int flags, const sockaddr* peer, socklen_t peer_size) {
  if (Interposer::fails(&Interposer::send)) return -1;
  return real<decltype(&::sendto)>("sendto")(fd, data, size, flags, peer, peer_size);
}

}  // extern "C"
