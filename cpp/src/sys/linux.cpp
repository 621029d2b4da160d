// The engine's system calls on Linux, except for those in posix.cpp.
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cassert>
#include <cerrno>
#include <cstdint>
#include <limits>

#include "epoll.hpp"
#include "mmsg_fallback.hpp"
#include "posix.hpp"
#include "zloop/sys.hpp"

namespace zloop::sys {

namespace {

// The datagrams of a call, in the form of recvmmsg(2) and sendmmsg(2); they point into `packets`.
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

// True if the kernel may lack the call: a sandbox's filter answers -ENOSYS or -EPERM. -EPERM may also come from a
// firewall, which then refuses the fallback's single calls as well; so the result is not remembered.
bool may_lack(int status) noexcept { return status == -ENOSYS || status == -EPERM; }

constexpr std::int64_t ns_per_s = 1'000'000'000;
constexpr std::int64_t ns_per_ms = 1'000'000;

// epoll_pwait2(2): the kernel has it since 5.11, and glibc has a wrapper since 2.35. Older headers lack even its
// number, which is the same on every architecture but Alpha.
#ifdef SYS_epoll_pwait2
constexpr long epoll_pwait2_number = SYS_epoll_pwait2;
#else
constexpr long epoll_pwait2_number = 441;
#endif

// The timespec of that system call, whatever width the C library's timespec has.
struct KernelTimespec {
  std::int64_t seconds;
  std::int64_t nanoseconds;
};

}  // namespace

const int no_sigpipe_flag = MSG_NOSIGNAL;

void prepare_socket(int /*fd*/) noexcept {}

int receive_packets(int fd, Packet* packets, int count) noexcept {
  Headers headers;  // NOLINT(*-member-init): describe() fills what is used
  describe(headers, packets, count, true);
  const int received =
      retrying([&] { return ::recvmmsg(fd, headers.data(), static_cast<unsigned>(count), MSG_DONTWAIT, nullptr); });
  if (may_lack(received)) return receive_mmsg_fallback(fd, packets, count);
  for (int i = 0; i < received; ++i) {
    const mmsghdr& header = headers[static_cast<std::size_t>(i)];
    packets[i].memory.iov_len = header.msg_len;
    packets[i].peer_size = header.msg_hdr.msg_namelen;
  }
  return received;
}

int send_packets(int fd, const Packet* packets, int count) noexcept {
  Headers headers;                                                // NOLINT(*-member-init): as above
  describe(headers, const_cast<Packet*>(packets), count, false);  // sendmmsg(2) only reads the packets
  const int sent = retrying(
      [&] { return ::sendmmsg(fd, headers.data(), static_cast<unsigned>(count), MSG_DONTWAIT | MSG_NOSIGNAL); });
  return may_lack(sent) ? send_mmsg_fallback(fd, packets, count) : sent;
}

// Not by write(): sanitizers intercept it.
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

// accept(2) also returns network errors of the new connection.
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

// The kernel has MADV_WIPEONFORK since 4.14.
bool clear_on_fork(void* pages, std::size_t size) noexcept {
#ifdef MADV_WIPEONFORK
  constexpr int wipe_on_fork = MADV_WIPEONFORK;
#else
  constexpr int wipe_on_fork = 18;
#endif
  return ::madvise(pages, size, wipe_on_fork) == 0;
}

int open_epoll() noexcept {
  const int fd = ::epoll_create1(EPOLL_CLOEXEC);
  return fd < 0 ? -errno : fd;
}

int control_epoll(int epoll, int operation, int fd, epoll_event* event) noexcept {
  return ::epoll_ctl(epoll, operation, fd, event) == 0 ? 0 : -errno;
}

int wait_epoll(int epoll, epoll_event* events, int capacity, std::int64_t timeout_ns) noexcept {
  int timeout_ms = -1;
  if (timeout_ns >= 0) {
    const std::int64_t rounded_up = (timeout_ns / ns_per_ms) + (timeout_ns % ns_per_ms != 0 ? 1 : 0);
    timeout_ms = static_cast<int>(std::min<std::int64_t>(rounded_up, std::numeric_limits<int>::max()));
  }
  const int count = ::epoll_wait(epoll, events, capacity, timeout_ms);
  return count >= 0 ? count : -errno;
}

// NOLINTNEXTLINE(misc-const-correctness): the kernel writes the events
int wait_epoll_precisely(int epoll, epoll_event* events, int capacity, std::int64_t timeout_ns) noexcept {
  const KernelTimespec timeout{.seconds = timeout_ns / ns_per_s, .nanoseconds = timeout_ns % ns_per_s};
  const long count = ::syscall(epoll_pwait2_number, epoll, events, capacity, &timeout, nullptr, std::size_t{0});
  return count >= 0 ? static_cast<int>(count) : -errno;
}

const bool has_abstract_names = true;

}  // namespace zloop::sys
