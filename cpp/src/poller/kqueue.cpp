// The kqueue backend (macOS and the BSDs).
//
// A kqueue registers pairs of a descriptor and a filter, with one filter for each kind of readiness. This class keeps a
// table of its own, because a kqueue does not report whether a descriptor is registered already, and has no room for a
// token on a 32-bit system.
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
    return add_filters(fd, interest, EV_ADD, token);
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
    return add_filters(fd, interest_read, EV_ADD | EV_CLEAR, token);
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

  // A forked child inherits no kqueue: in the child the number is free, or belongs to another file.
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
    int event = no_event;  // during merge(): the index of this descriptor's event
  };

  // At most a year, because macOS and other systems refuse much longer timeouts. Rounded up to whole microseconds:
  // older kernels ignore the remainder, and would return too early.
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

  // The registration of a watched descriptor, or null.
  Registration* find(int fd) noexcept {
    const auto index = static_cast<std::size_t>(fd);
    if (index >= registrations_.size() || registrations_[index].interest == interest_none) return nullptr;
    return &registrations_[index];
  }

  int add_filters(int fd, unsigned interest, unsigned flags, std::uint64_t token) noexcept {
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

  // Changes the filters of a descriptor. The kernel stops at the first failure, so the order is important. First the
  // filters that stay are enabled again, which fails if the number refers to another file now. Then new filters are
  // added. Last, filters that are no longer wanted are deleted. After a failure the new filters are deleted again.
  [[nodiscard]] int change(int fd, unsigned before, unsigned after, unsigned flags) const noexcept {
    std::array<KernelEvent, 2> commands{};
    int count = 0;
    const auto append = [&](unsigned bits, unsigned command_flags) {
      for (const unsigned bit : {interest_read, interest_write}) {
        if ((bits & bit) != 0) commands[static_cast<std::size_t>(count++)] = command(fd, bit, command_flags);
      }
    };
    append(before & after, EV_ENABLE);
    append(after & ~before, flags);
    append(before & ~after, EV_DELETE);
    const int status = sys::change_kqueue(fd_, commands.data(), count);
    if (status == 0) return 0;
    count = 0;
    append(after & ~before, EV_DELETE);
    for (int i = 0; i < count; ++i) {
      // Fails for a filter that has not been added.
      [[maybe_unused]] const int undone = sys::change_kqueue(fd_, &commands[static_cast<std::size_t>(i)], 1);
    }
    return status;
  }

  // Merges the first `count` raw events into one event for each descriptor, and returns their number.
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
      if ((registration.interest & interest_once) != 0) disable(static_cast<int>(ident), registration);
    }
    return merged;
  }

  // Deletes all filters of a one-shot registration after its event; EV_ONESHOT would delete only the filter that
  // reported. The change fails if the descriptor was closed since; there are no filters then.
  void disable(int fd, Registration& registration) const noexcept {
    [[maybe_unused]] const int disabled = change(fd, registration.interest, interest_none, EV_ADD);
    registration.interest = interest_once;
  }

  int fd_ = -1;
  std::vector<Registration> registrations_;  // by descriptor
  std::array<KernelEvent, batch> raw_{};
};

}  // namespace

std::unique_ptr<Poller> make_poller() noexcept { return std::unique_ptr<Poller>(new (std::nothrow) KqueuePoller()); }

}  // namespace zloop
