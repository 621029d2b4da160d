// Linux: the interposer's system calls, with the linker's option --wrap.
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>

#include "support/interposer.hpp"
#include "support/platform.hpp"

namespace zloop {

// make_poller() of the kqueue backend, under another name: see ../fake_kqueue/.
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

std::vector<int> errors_before_accept() {
  return {ECONNABORTED, EPROTO, ENETDOWN, ENOPROTOOPT, EHOSTDOWN, ENONET, EHOSTUNREACH, EOPNOTSUPP, ENETUNREACH};
}

namespace {

// True inside sendmmsg(2): musl implements it with sendmsg(2).
thread_local bool in_batch = false;  // NOLINT(cppcoreguidelines-avoid-non-const-global-variables): calls nest

// The number of pending bytes that one call receives if it asks for `size` bytes.
std::size_t allowed_to_receive(int fd, std::size_t size) {
  int there = 0;
  if (::ioctl(fd, FIONREAD, &there) < 0 || there <= 0) return size;
  const std::size_t all = std::min(size, static_cast<std::size_t>(there));
  const std::size_t allowed = Interposer::allowed(&Interposer::receive, all);
  return allowed == all ? size : allowed;
}

// The number of bytes that one call sends of `size` bytes; a datagram is sent completely.
std::size_t allowed_to_send(int fd, std::size_t size) {
  const std::size_t allowed = Interposer::allowed(&Interposer::send, size);
  if (allowed == size) return size;
  int type = 0;
  socklen_t type_size = sizeof(type);
  const bool is_datagram = ::getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &type_size) == 0 && type == SOCK_DGRAM;
  return is_datagram ? size : allowed;
}

Interposer::Call Interposer::* call_of(int operation) {
  if (operation == EPOLL_CTL_ADD) return &Interposer::poller_add;
  return operation == EPOLL_CTL_MOD ? &Interposer::poller_modify : &Interposer::poller_remove;
}

}  // namespace

}  // namespace zloop::test

using zloop::test::allowed_to_receive;
using zloop::test::allowed_to_send;
using zloop::test::call_of;
using zloop::test::in_batch;
using zloop::test::Interposer;

// NOLINTBEGIN(bugprone-reserved-identifier,cert-dcl37-c,cert-dcl51-cpp,readability-identifier-naming): the names
// that the linker requires.
extern "C" {

int __real_accept4(int fd, sockaddr* address, socklen_t* size, int flags);
int __real_epoll_create1(int flags);
int __real_epoll_ctl(int epoll_fd, int operation, int fd, epoll_event* event);
int __real_epoll_wait(int epoll_fd, epoll_event* events, int capacity, int timeout_ms);
int __real_eventfd(unsigned value, int flags);
int __real_madvise(void* address, std::size_t size, int advice);
void* __real_mmap(void* address, std::size_t size, int protection, int flags, int fd, off_t offset);
int __real_munmap(void* address, std::size_t size);
ssize_t __real_read(int fd, void* data, std::size_t size);
ssize_t __real_recv(int fd, void* data, std::size_t size, int flags);
int __real_recvmmsg(int fd, mmsghdr* messages, unsigned count, int flags, timespec* timeout);
ssize_t __real_send(int fd, const void* data, std::size_t size, int flags);
int __real_sendmmsg(int fd, mmsghdr* messages, unsigned count, int flags);
ssize_t __real_sendmsg(int fd, const msghdr* message, int flags);
ssize_t __real_sendto(int fd, const void* data, std::size_t size, int flags, const sockaddr* peer, socklen_t peer_size);
ssize_t __real_write(int fd, const void* data, std::size_t size);
ssize_t __real_writev(int fd, const iovec* vectors, int count);

int __wrap_accept4(int fd, sockaddr* address, socklen_t* size, int flags) {
  return Interposer::fails(&Interposer::accept) ? -1 : __real_accept4(fd, address, size, flags);
}

int __wrap_epoll_create1(int flags) {
  return Interposer::fails(&Interposer::poller_open) ? -1 : __real_epoll_create1(flags);
}

int __wrap_epoll_ctl(int epoll_fd, int operation, int fd, epoll_event* event) {
  if (!Interposer::fails(&Interposer::poller_control) && !Interposer::fails(call_of(operation))) {
    return __real_epoll_ctl(epoll_fd, operation, fd, event);
  }
  const int error = errno;
  if (error == EEXIST) __real_epoll_ctl(epoll_fd, EPOLL_CTL_ADD, fd, event);
  if (operation == EPOLL_CTL_DEL || error == ENOENT || error == EBADF) {
    __real_epoll_ctl(epoll_fd, EPOLL_CTL_DEL, fd, event);
  }
  errno = error;
  return -1;
}

int __wrap_epoll_wait(int epoll_fd, epoll_event* events, int capacity, int timeout_ms) {
  if (Interposer::fails(&Interposer::poller_wait)) return -1;
  return __real_epoll_wait(epoll_fd, events, capacity, timeout_ms);
}

int __wrap_eventfd(unsigned value, int flags) {
  if (Interposer::fails(&Interposer::wakeup_open)) return -1;
  const int fd = __real_eventfd(value, flags);
  Interposer::note_wakeup(fd);
  return fd;
}

int __wrap_madvise(void* address, std::size_t size, int advice) {
  return Interposer::fails(&Interposer::memory_advise) ? -1 : __real_madvise(address, size, advice);
}

void* __wrap_mmap(void* address, std::size_t size, int protection, int flags, int fd, off_t offset) {
  if (Interposer::fails(&Interposer::memory_map)) return MAP_FAILED;
  return __real_mmap(address, size, protection, flags, fd, offset);
}

int __wrap_munmap(void* address, std::size_t size) {
  Interposer::fails(&Interposer::memory_unmap);
  return __real_munmap(address, size);
}

ssize_t __wrap_read(int fd, void* data, std::size_t size) {
  if (!Interposer::is_pipe(fd)) return __real_read(fd, data, size);
  if (Interposer::fails(&Interposer::receive)) return -1;
  return __real_read(fd, data, allowed_to_receive(fd, size));
}

int __wrap_recvmmsg(int fd, mmsghdr* messages, unsigned count, int flags, timespec* timeout) {
  if (Interposer::fails(&Interposer::receive)) return -1;
  const auto allowed = static_cast<unsigned>(Interposer::allowed(&Interposer::receive, count));
  return __real_recvmmsg(fd, messages, allowed, flags, timeout);
}

int __wrap_sendmmsg(int fd, mmsghdr* messages, unsigned count, int flags) {
  if (Interposer::fails(&Interposer::send)) return -1;
  in_batch = true;
  const auto allowed = static_cast<unsigned>(Interposer::allowed(&Interposer::send, count));
  const int sent = __real_sendmmsg(fd, messages, allowed, flags);
  in_batch = false;
  return sent;
}

ssize_t __wrap_recv(int fd, void* data, std::size_t size, int flags) {
  if (Interposer::fails(&Interposer::receive)) return -1;
  return __real_recv(fd, data, allowed_to_receive(fd, size), flags);
}

ssize_t __wrap_send(int fd, const void* data, std::size_t size, int flags) {
  if (Interposer::fails(&Interposer::send)) return -1;
  return __real_send(fd, data, allowed_to_send(fd, size), flags);
}

ssize_t __wrap_sendmsg(int fd, const msghdr* message, int flags) {
  if (in_batch) return __real_sendmsg(fd, message, flags);
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

ssize_t __wrap_write(int fd, const void* data, std::size_t size) {
  if (Interposer::is_wakeup(fd))
    return Interposer::fails(&Interposer::wakeup_write) ? -1 : __real_write(fd, data, size);
  if (!Interposer::is_pipe(fd)) return __real_write(fd, data, size);
  if (Interposer::fails(&Interposer::send)) return -1;
  return __real_write(fd, data, Interposer::allowed(&Interposer::send, size));
}

ssize_t __wrap_writev(int fd, const iovec* vectors, int count) {
  if (!Interposer::is_pipe(fd)) return __real_writev(fd, vectors, count);
  if (Interposer::fails(&Interposer::send)) return -1;
  const std::vector<iovec> allowed = Interposer::first_bytes(vectors, static_cast<std::size_t>(count));
  return __real_writev(fd, allowed.data(), static_cast<int>(allowed.size()));
}

}  // extern "C"
// NOLINTEND(bugprone-reserved-identifier,cert-dcl37-c,cert-dcl51-cpp,readability-identifier-naming)
