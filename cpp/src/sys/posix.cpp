// The system calls that are the same on all systems.
#include "posix.hpp"

#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/mman.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdlib>

#include "zloop/sys.hpp"

namespace zloop::sys {

// glibc maps each block above a threshold separately, and returns the free memory at the end of its heap to the kernel
// if that exceeds twice the threshold. It adapts the threshold to the blocks that are freed. Other C libraries are not
// affected.
void expect_large_blocks() noexcept {
  constexpr std::size_t large = std::size_t{1024} * 1024;
  void* volatile block = std::malloc(large);  // NOLINT(*-no-malloc): volatile, so that the compiler keeps the calls
  std::free(block);                           // NOLINT(*-no-malloc)
}

ssize_t recv(int fd, void* data, std::size_t size) noexcept {
  return retrying([&] { return ::recv(fd, data, size, 0); });
}

ssize_t send(int fd, const void* data, std::size_t size) noexcept {
  return retrying([&] { return ::send(fd, data, size, no_sigpipe_flag); });
}

ssize_t recv_from(int fd, void* data, std::size_t size, sockaddr_storage* sender, socklen_t* sender_size) noexcept {
  return retrying([&] {
    *sender_size = sizeof(*sender);
    return ::recvfrom(fd, data, size, 0, reinterpret_cast<sockaddr*>(sender), sender_size);
  });
}

ssize_t send_to(int fd, const void* data, std::size_t size, const sockaddr* peer, socklen_t peer_size) noexcept {
  return retrying([&] { return ::sendto(fd, data, size, no_sigpipe_flag, peer, peer_size); });
}

ssize_t sendv(int fd, const iovec* vectors, int count) noexcept {
  msghdr message{};
  message.msg_iov = const_cast<iovec*>(vectors);  // sendmsg(2) only reads them
  message.msg_iovlen = static_cast<decltype(message.msg_iovlen)>(count);
  return retrying([&] { return ::sendmsg(fd, &message, no_sigpipe_flag); });
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

// Not repeated: after EINTR the kernel continues the attempt, and a second call would be another attempt.
int connect(int fd, const sockaddr* peer, socklen_t peer_size) noexcept {
  if (::connect(fd, peer, peer_size) == 0) return 0;
  return errno == EINTR ? -EINPROGRESS : -errno;
}

int finish_connect(int fd) noexcept {
  pollfd state{.fd = fd, .events = POLLOUT, .revents = 0};
  const int ready = retrying([&] { return ::poll(&state, 1, 0); });
  if (ready <= 0) return ready < 0 ? ready : -EINPROGRESS;
  int error = 0;
  socklen_t size = sizeof(error);
  return ::getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &size) == 0 ? -error : -errno;
}

int set_nodelay(int fd) noexcept {
  const int on = 1;
  return ::setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on)) == 0 ? 0 : -errno;
}

int local_address(int fd, sockaddr_storage* address, socklen_t* size) noexcept {
  *size = sizeof(*address);
  return ::getsockname(fd, reinterpret_cast<sockaddr*>(address), size) == 0 ? 0 : -errno;
}

int peer_address(int fd, sockaddr_storage* address, socklen_t* size) noexcept {
  *size = sizeof(*address);
  return ::getpeername(fd, reinterpret_cast<sockaddr*>(address), size) == 0 ? 0 : -errno;
}

int shutdown_write(int fd) noexcept { return ::shutdown(fd, SHUT_WR) == 0 ? 0 : -errno; }

int check_open(int fd) noexcept { return ::fcntl(fd, F_GETFD) >= 0 ? 0 : -errno; }

int process_id() noexcept { return ::getpid(); }

volatile unsigned char* make_fork_flag() noexcept {
  const auto size = static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));
  void* page = ::mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANON, -1, 0);
  if (page == MAP_FAILED) return nullptr;
  if (clear_on_fork(page, size)) return static_cast<volatile unsigned char*>(page);
  ::munmap(page, size);
  return nullptr;
}

void free_fork_flag(volatile unsigned char* flag) noexcept {
  if (flag == nullptr) return;
  ::munmap(const_cast<unsigned char*>(flag), static_cast<std::size_t>(::sysconf(_SC_PAGESIZE)));
}

int open_pipe(int* read_end, int* write_end) noexcept {
  std::array<int, 2> ends{};
  if (::pipe(ends.data()) < 0) return -errno;                    // pipe2(2) is not on every system
  for (const int end : ends) ::fcntl(end, F_SETFD, FD_CLOEXEC);  // cannot fail: they are open
  *read_end = ends[0];
  *write_end = ends[1];
  return 0;
}

int close(int fd) noexcept { return ::close(fd) == 0 ? 0 : -errno; }

}  // namespace zloop::sys
