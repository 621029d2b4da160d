// The epoll backend (Linux).
#include <sys/epoll.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cassert>
#include <cerrno>
#include <cstddef>
#include <limits>
#include <new>

#include "zloop/poller.hpp"
#include "zloop/sys.hpp"

namespace zloop {

namespace {

constexpr std::int64_t ns_per_s = 1'000'000'000;
constexpr std::int64_t ns_per_ms = 1'000'000;

// The kernel has the call since 5.11, the C library a wrapper since glibc 2.35, and older headers lack even its number,
// which is the same on every architecture but Alpha.
#ifdef SYS_epoll_pwait2
constexpr long epoll_pwait2_number = SYS_epoll_pwait2;
#else
constexpr long epoll_pwait2_number = 441;
#endif

// What that call takes, whatever width the C library's timespec has.
struct KernelTimespec {
  std::int64_t seconds;
  std::int64_t nanoseconds;
};

class EpollPoller final : public Poller {
 public:
  EpollPoller() {}  // NOLINT(*-member-init,*-use-equals-default): nothing zeroes raw_
  ~EpollPoller() override { EpollPoller::close(); }

  int open() noexcept override {
    assert(fd_ < 0);
    fd_ = ::epoll_create1(EPOLL_CLOEXEC);
    return fd_ >= 0 ? 0 : -errno;
  }

  int add(int fd, unsigned interest, std::uint64_t token) noexcept override {
    return control(EPOLL_CTL_ADD, fd, bits_of(interest), token);
  }

  int modify(int fd, unsigned interest, std::uint64_t token) noexcept override {
    return control(EPOLL_CTL_MOD, fd, bits_of(interest), token);
  }

  int remove(int fd) noexcept override { return control(EPOLL_CTL_DEL, fd, 0, 0); }

  int add_edge_triggered(int fd, std::uint64_t token) noexcept override {
    return control(EPOLL_CTL_ADD, fd, EPOLLIN | EPOLLET, token);
  }

  int wait(PollEvent* events, int capacity, std::int64_t timeout_ns) noexcept override {
    const int count = wait_raw(std::min(capacity, batch), timeout_ns);
    for (int i = 0; i < count; ++i) {
      const epoll_event& raw = raw_[static_cast<std::size_t>(i)];
      events[i] = PollEvent{.token = raw.data.u64, .ready = ready_of(raw.events)};
    }
    return count;
  }

  [[nodiscard]] int fd() const noexcept override { return fd_; }

  void close() noexcept override {
    if (fd_ < 0) return;
    sys::close(fd_);
    fd_ = -1;
  }

 private:
  static constexpr int batch = 256;

  static std::uint32_t bits_of(unsigned interest) noexcept {
    return ((interest & interest_read) != 0 ? std::uint32_t{EPOLLIN} : 0U) |
           ((interest & interest_write) != 0 ? std::uint32_t{EPOLLOUT} : 0U) |
           ((interest & interest_once) != 0 ? std::uint32_t{EPOLLONESHOT} : 0U);
  }

  // EPOLLERR and EPOLLHUP come unasked; reading or writing is how their owner learns the reason.
  static unsigned ready_of(std::uint32_t bits) noexcept {
    unsigned ready = interest_none;
    if ((bits & ~std::uint32_t{EPOLLOUT}) != 0) ready |= interest_read;
    if ((bits & ~std::uint32_t{EPOLLIN}) != 0) ready |= interest_write;
    return ready;
  }

  [[nodiscard]] int control(int operation, int fd, std::uint32_t bits, std::uint64_t token) const noexcept {
    epoll_event event{};
    event.events = bits;
    event.data.u64 = token;
    return ::epoll_ctl(fd_, operation, fd, &event) == 0 ? 0 : -errno;
  }

  int wait_raw(int capacity, std::int64_t timeout_ns) noexcept {
    if (timeout_ns <= 0 || !precise_) return wait_milliseconds(capacity, timeout_ns);
    const KernelTimespec timeout{.seconds = timeout_ns / ns_per_s, .nanoseconds = timeout_ns % ns_per_s};
    const long count = ::syscall(epoll_pwait2_number, fd_, raw_.data(), capacity, &timeout, nullptr, std::size_t{0});
    if (count >= 0) return static_cast<int>(count);
    // EPERM: a sandbox's filter refuses calls that it does not know.
    if (errno != ENOSYS && errno != EPERM) return -errno;
    precise_ = false;
    return wait_milliseconds(capacity, timeout_ns);
  }

  int wait_milliseconds(int capacity, std::int64_t timeout_ns) noexcept {
    int timeout_ms = -1;
    if (timeout_ns >= 0) {
      const std::int64_t rounded_up = (timeout_ns / ns_per_ms) + (timeout_ns % ns_per_ms != 0 ? 1 : 0);
      timeout_ms = static_cast<int>(std::min<std::int64_t>(rounded_up, std::numeric_limits<int>::max()));
    }
    const int count = ::epoll_wait(fd_, raw_.data(), capacity, timeout_ms);
    return count >= 0 ? count : -errno;
  }

  int fd_ = -1;
  bool precise_ = true;                 // epoll_pwait2 is there
  std::array<epoll_event, batch> raw_;  // what the kernel wrote last
};

}  // namespace

std::unique_ptr<Poller> make_poller() noexcept { return std::unique_ptr<Poller>(new (std::nothrow) EpollPoller()); }

}  // namespace zloop
