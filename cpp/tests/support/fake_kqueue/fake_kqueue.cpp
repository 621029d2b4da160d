// A kqueue implemented with epoll: the contract test of the pollers also tests the kqueue backend on Linux, under the
// sanitizers, too. It proves nothing about real kernels; that is for the tests on their systems.
#include <fcntl.h>
#include <sys/epoll.h>
#include <sys/event.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <map>

namespace {

// What each kqueue watches: EPOLL* bits by descriptor. The map of a closed kqueue is cleared when the next kqueue gets
// the same number.
std::map<int, std::map<int, std::uint32_t>> queues;  // NOLINT(*-non-const-global-variables): kernel state is global

std::uint32_t bit_of(const struct kevent& event) { return event.filter == EVFILT_READ ? EPOLLIN : EPOLLOUT; }

int control(int queue, int operation, int fd, std::uint32_t bits) {
  epoll_event event{};
  event.events = bits;
  event.data.fd = fd;
  return ::epoll_ctl(queue, operation, fd, &event);
}

int add(int queue, const struct kevent& change) {
  const int fd = static_cast<int>(change.ident);
  std::map<int, std::uint32_t>& watched = queues[queue];
  const std::uint32_t wanted = bit_of(change) | ((change.flags & EV_CLEAR) != 0 ? std::uint32_t{EPOLLET} : 0U);
  const auto known = watched.find(fd);
  if (known != watched.end()) {
    if (control(queue, EPOLL_CTL_MOD, fd, known->second | wanted) == 0) {
      known->second |= wanted;
      return 0;
    }
    watched.erase(known);  // the descriptor was closed; the number may refer to another file
  }
  if (control(queue, EPOLL_CTL_ADD, fd, wanted) < 0) return -1;
  watched[fd] = wanted;
  return 0;
}

// EV_ENABLE without EV_ADD: for existing filters only.
int enable(int queue, const struct kevent& change) {
  const int fd = static_cast<int>(change.ident);
  std::map<int, std::uint32_t>& watched = queues[queue];
  const auto known = watched.find(fd);
  if (known != watched.end() && control(queue, EPOLL_CTL_MOD, fd, known->second) < 0) {
    watched.erase(known);  // the descriptor was closed; the number may refer to another file
    return -1;
  }
  if (known != watched.end() && (known->second & bit_of(change)) != 0) return 0;
  if (::fcntl(fd, F_GETFD) >= 0) errno = ENOENT;  // otherwise it is EBADF
  return -1;
}

int drop(int queue, const struct kevent& change) {
  const int fd = static_cast<int>(change.ident);
  std::map<int, std::uint32_t>& watched = queues[queue];
  const auto known = watched.find(fd);
  if (known == watched.end() || (known->second & bit_of(change)) == 0) {
    if (::fcntl(fd, F_GETFD) >= 0) errno = ENOENT;  // otherwise it is EBADF
    return -1;
  }
  known->second &= ~(bit_of(change) | EPOLLET);
  const std::uint32_t left = known->second;
  if (left == 0) watched.erase(known);
  return control(queue, left == 0 ? EPOLL_CTL_DEL : EPOLL_CTL_MOD, fd, left);
}

// Stores one event for each filter, as a kqueue does. Events beyond `room` are reported by the next call.
int expand(int queue, const epoll_event& raw, struct kevent* events, int room) {
  const std::uint32_t watched = queues[queue].at(raw.data.fd);
  const bool broken = (raw.events & (EPOLLERR | EPOLLHUP)) != 0;
  int count = 0;
  for (const int filter : {EVFILT_READ, EVFILT_WRITE}) {
    struct kevent event{};
    event.ident = static_cast<std::uintptr_t>(raw.data.fd);
    event.filter = static_cast<std::int16_t>(filter);
    const std::uint32_t bit = bit_of(event);
    if ((watched & bit) != 0 && ((raw.events & bit) != 0 || broken) && count < room) events[count++] = event;
  }
  return count;
}

}  // namespace

extern "C" {

int kqueue() {
  const int queue = ::epoll_create1(EPOLL_CLOEXEC);
  if (queue >= 0) queues[queue].clear();
  return queue;
}

int kevent(int queue, const struct kevent* changes, int changes_count, struct kevent* events, int events_count,
           const timespec* timeout) {
  for (int i = 0; i < changes_count; ++i) {
    auto* act = &enable;
    if ((changes[i].flags & EV_DELETE) != 0) {
      act = &drop;
    } else if ((changes[i].flags & EV_ADD) != 0) {
      act = &add;
    }
    if (act(queue, changes[i]) < 0) return -1;
  }
  if (events_count == 0) return 0;
  std::array<epoll_event, 256> raw{};
  int timeout_ms = -1;
  if (timeout != nullptr) {
    constexpr std::int64_t day_ms = 86'400'000;
    timeout_ms = static_cast<int>(
        std::min<std::int64_t>((timeout->tv_sec * 1000) + ((timeout->tv_nsec + 999'999) / 1'000'000), day_ms));
  }
  const int found = ::epoll_wait(queue, raw.data(), std::min(events_count, static_cast<int>(raw.size())), timeout_ms);
  if (found < 0) return -1;
  int count = 0;
  for (int i = 0; i < found; ++i) {
    count += expand(queue, raw.at(static_cast<std::size_t>(i)), events + count, events_count - count);
  }
  return count;
}

}  // extern "C"
