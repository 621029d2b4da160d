// The kqueue backend (macOS and the BSDs).
//
// A kqueue knows pairs of a descriptor and a filter, one filter for each kind of readiness. What the kernel was told is
// kept here, too: it does not say whether a descriptor is in it already, and on a 32-bit system has no room for a
// token.
#include <algorithm>
#include <array>
#include <cassert>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <new>
#include <vector>

#include "../sys/kqueue.hpp"
#include "zloop/poller.hpp"
#include "zloop/sys.hpp"

namespace zloop {

namespace {

constexpr std::int64_t ns_per_s = 1'000'000'000;
constexpr std::int64_t ns_per_us = 1'000;

using sys::KernelEvent;

class KqueuePoller final : public Poller {
 public:
  ~KqueuePoller() override { KqueuePoller::close(); }

  int open() noexcept override {
    assert(fd_ < 0);
    const int fd = sys::open_kqueue();
    if (fd < 0) return fd;
    fd_ = fd;
    return 0;
  }

  int add(int fd, unsigned interest, std::uint64_t token) noexcept override {
    return enlist(fd, interest, EV_ADD, token);
  }

  int modify(int fd, unsigned interest, std::uint64_t token) noexcept override {
    if (fd < 0) return -EBADF;
    Registration* registration = find(fd);
    if (registration == nullptr) return -ENOENT;
    const int status = change(fd, registration->interest, interest, EV_ADD);
    if (status < 0) return status;
    registration->interest = interest;
    registration->token = token;
    return 0;
  }

  int remove(int fd) noexcept override {
    if (fd < 0) return -EBADF;
    Registration* registration = find(fd);
    if (registration == nullptr) return -ENOENT;
    const unsigned interest = registration->interest;
    registration->interest = interest_none;
    return change(fd, interest, interest_none, EV_ADD);
  }

  int add_edge_triggered(int fd, std::uint64_t token) noexcept override {
    return enlist(fd, interest_read, EV_ADD | EV_CLEAR, token);
  }

  int wait(PollEvent* events, int capacity, std::int64_t timeout_ns) noexcept override {
    const timespec timeout = timeout_of(timeout_ns);
    const int count =
        sys::wait_kqueue(fd_, raw_.data(), std::min(capacity, batch), timeout_ns < 0 ? nullptr : &timeout);
    return count >= 0 ? merge(events, count) : count;
  }

  [[nodiscard]] int fd() const noexcept override { return fd_; }

  void close() noexcept override {
    if (fd_ >= 0) sys::close(fd_);
    close_inherited();
  }

  // A forked child inherits no kqueue. The number is free there, or a stranger's by now.
  void close_inherited() noexcept override {
    fd_ = -1;
    registrations_.clear();
  }

 private:
  static constexpr int batch = 256;
  static constexpr int no_event = -1;

  struct Registration {
    std::uint64_t token = 0;
    unsigned interest = interest_none;
    int event = no_event;  // where merge() has put what happened to this descriptor
  };

  // A year at most: macOS and others refuse what is much longer. In whole microseconds, rounded up: older kernels drop
  // the rest, and would return too early.
  static timespec timeout_of(std::int64_t timeout_ns) noexcept {
    constexpr std::int64_t longest_ns = std::int64_t{365} * 86'400 * ns_per_s;
    const std::int64_t us = (std::clamp<std::int64_t>(timeout_ns, 0, longest_ns) + ns_per_us - 1) / ns_per_us;
    timespec timeout{};
    timeout.tv_sec = static_cast<time_t>(us * ns_per_us / ns_per_s);
    timeout.tv_nsec = static_cast<long>(us * ns_per_us % ns_per_s);
    return timeout;
  }

  static KernelEvent command(int fd, unsigned bit, unsigned flags) noexcept {
    KernelEvent event{};
    event.ident = static_cast<decltype(event.ident)>(fd);
    event.filter = static_cast<decltype(event.filter)>(bit == interest_read ? EVFILT_READ : EVFILT_WRITE);
    event.flags = static_cast<decltype(event.flags)>(flags);
    return event;
  }

  // The one of a descriptor that is watched, or null.
  Registration* find(int fd) noexcept {
    const auto index = static_cast<std::size_t>(fd);
    if (index >= registrations_.size() || registrations_[index].interest == interest_none) return nullptr;
    return &registrations_[index];
  }

  int enlist(int fd, unsigned interest, unsigned flags, std::uint64_t token) noexcept {
    if (fd < 0) return -EBADF;
    if (find(fd) != nullptr) return -EEXIST;
    const auto index = static_cast<std::size_t>(fd);
    try {
      if (index >= registrations_.size()) registrations_.resize(index + 1);
    } catch (const std::bad_alloc&) {
      return -ENOMEM;
    }
    const int status = change(fd, interest_none, interest, flags);
    if (status == 0) registrations_[index] = {.token = token, .interest = interest};
    return status;
  }

  // What the kernel should know is told first, and nothing but to go on: it does not, if the number stands for another
  // file by now. Then what is new, and at last what is no longer wanted, as the kernel stops at a failure.
  [[nodiscard]] int change(int fd, unsigned before, unsigned after, unsigned flags) const noexcept {
    std::array<KernelEvent, 2> commands{};
    int count = 0;
    const auto tell = [&](unsigned bits, unsigned how) {
      for (const unsigned bit : {interest_read, interest_write}) {
        if ((bits & bit) != 0) commands[static_cast<std::size_t>(count++)] = command(fd, bit, how);
      }
    };
    tell(before & after, EV_ENABLE);
    tell(after & ~before, flags);
    tell(before & ~after, EV_DELETE);
    const int status = sys::change_kqueue(fd_, commands.data(), count);
    if (status == 0) return 0;
    count = 0;
    tell(after & ~before, EV_DELETE);
    for (int i = 0; i < count; ++i) {
      // Fails for what has not been added.
      [[maybe_unused]] const int undone = sys::change_kqueue(fd_, &commands[static_cast<std::size_t>(i)], 1);
    }
    return status;
  }

  // Of the first `count` raw events, makes one for each descriptor; returns how many.
  int merge(PollEvent* events, int count) noexcept {
    int merged = 0;
    for (int i = 0; i < count; ++i) {
      const KernelEvent& raw = raw_[static_cast<std::size_t>(i)];
      Registration& registration = registrations_[raw.ident];
      if (registration.event == no_event) {
        registration.event = merged;
        events[merged++] = PollEvent{.token = registration.token, .ready = interest_none};
      }
      events[registration.event].ready |= raw.filter == EVFILT_READ ? interest_read : interest_write;
    }
    for (int i = 0; i < count; ++i) {
      const auto ident = raw_[static_cast<std::size_t>(i)].ident;
      Registration& registration = registrations_[ident];
      registration.event = no_event;
      if ((registration.interest & interest_once) != 0) silence(static_cast<int>(ident), registration);
    }
    return merged;
  }

  // By hand: EV_ONESHOT would end each filter for itself. Fails where the descriptor was closed since, and is silent.
  void silence(int fd, Registration& registration) const noexcept {
    [[maybe_unused]] const int silenced = change(fd, registration.interest, interest_none, EV_ADD);
    registration.interest = interest_once;
  }

  int fd_ = -1;
  std::vector<Registration> registrations_;  // by descriptor
  std::array<KernelEvent, batch> raw_{};
};

}  // namespace

std::unique_ptr<Poller> make_poller() noexcept { return std::unique_ptr<Poller>(new (std::nothrow) KqueuePoller()); }

}  // namespace zloop
