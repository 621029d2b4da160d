// The epoll backend (Linux).
#include <algorithm>
#include <array>
#include <cassert>
#include <cerrno>
#include <cstdint>
#include <new>

#include "../sys/epoll.hpp"
#include "zloop/poller.hpp"
#include "zloop/sys.hpp"

namespace zloop {

namespace {

class EpollPoller final : public Poller {
 public:
  EpollPoller() {}  // NOLINT(*-member-init,*-use-equals-default): raw_ is not zeroed
  ~EpollPoller() override { EpollPoller::close(); }

  int open() noexcept override {
    assert(fd_ < 0);
    const int fd = sys::open_epoll();
    if (fd < 0) return fd;
    fd_ = fd;
    return 0;
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

  // After a fork the descriptor is the child's own, but the epoll instance is shared with the parent.
  void close_inherited() noexcept override { close(); }

 private:
  static constexpr int batch = 256;

  static std::uint32_t bits_of(unsigned interest) noexcept {
    return ((interest & interest_read) != 0 ? std::uint32_t{EPOLLIN} : 0U) |
           ((interest & interest_write) != 0 ? std::uint32_t{EPOLLOUT} : 0U) |
           ((interest & interest_once) != 0 ? std::uint32_t{EPOLLONESHOT} : 0U) |
           ((interest & interest_exclusive) != 0 ? std::uint32_t{EPOLLEXCLUSIVE} : 0U);
  }

  // EPOLLERR and EPOLLHUP are reported without being requested; the owner learns the reason by reading or writing.
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
    return sys::control_epoll(fd_, operation, fd, &event);
  }

  int wait_raw(int capacity, std::int64_t timeout_ns) noexcept {
    if (timeout_ns > 0 && precise_) {
      const int count = sys::wait_epoll_precisely(fd_, raw_.data(), capacity, timeout_ns);
      if (count != -ENOSYS && count != -EPERM) return count;
      precise_ = false;
    }
    return sys::wait_epoll(fd_, raw_.data(), capacity, timeout_ns);
  }

  int fd_ = -1;
  bool precise_ = true;                 // epoll_pwait2(2) is available
  std::array<epoll_event, batch> raw_;  // events of the last wait
};

}  // namespace

std::unique_ptr<Poller> make_poller() noexcept { return std::unique_ptr<Poller>(new (std::nothrow) EpollPoller()); }

}  // namespace zloop
