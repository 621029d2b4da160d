#include "zloop/invariants.hpp"

#ifdef ZLOOP_INVARIANTS
#include <sys/stat.h>

#include <array>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <new>
#include <string>
#include <vector>

#include "zloop/reactor.hpp"
#ifdef __linux__
#include "zloop/poller_entries.hpp"
#endif
#endif

namespace zloop {

#ifdef ZLOOP_INVARIANTS

NamedCount live_count(std::size_t index) noexcept {
  const std::array counts = {
      NamedCount{.name = "Reactor", .count = LiveCount<LiveClass::reactor>::now()},
      NamedCount{.name = "Stream", .count = LiveCount<LiveClass::stream>::now()},
      NamedCount{.name = "Listener", .count = LiveCount<LiveClass::listener>::now()},
      NamedCount{.name = "DatagramSocket", .count = LiveCount<LiveClass::datagram_socket>::now()},
      NamedCount{.name = "TlsSession", .count = LiveCount<LiveClass::tls_session>::now()},
  };
  return index < counts.size() ? counts.at(index) : NamedCount{.name = nullptr, .count = 0};
}

namespace {

// With more descriptors than these, the kernel is asked every other turn, every third, and so on.
constexpr std::size_t asked_each_turn = 64;

std::string about(int fd, const char* what) { return "descriptor " + std::to_string(fd) + ": " + what; }

}  // namespace

std::uint64_t inode_of(int fd) noexcept {
  struct stat status{};
  return ::fstat(fd, &status) == 0 ? std::uint64_t{status.st_ino} : 0;
}

// Reads the private parts of the reactor and its watchers.
struct Invariants {
  const Reactor& reactor;

  [[nodiscard]] std::string violated_in_tables() const {
    std::size_t watched = 0;
    for (std::size_t number = 0; number < reactor.slots_.size(); ++number) {
      const Watcher* watcher = reactor.slots_[number].watcher;
      if (watcher == nullptr) continue;
      const int fd = static_cast<int>(number);
      if (watcher->alive_ != Watcher::alive) return about(fd, "its watcher was destroyed, and is still attached");
      if (watcher->reactor_ != &reactor) return about(fd, "its watcher belongs to another reactor, or to none");
      if (watcher->fd_ != fd) return about(fd, "its watcher has another number");
      if (watcher->ops_ == nullptr) return about(fd, "its watcher has no operations");
      if (watcher->interest_ == interest_none) continue;
      ++watched;
      if (!watcher->has_entry_) return about(fd, "its watcher has an interest, and no entry in the poller");
      if (watcher->lost_) return about(fd, "its watcher is lost, and still has an interest");
    }
    if (watched != reactor.watched_) {
      return std::to_string(watched) + " watchers have an interest, and " + std::to_string(reactor.watched_) +
             " are counted";
    }
    return {};
  }

#ifdef __linux__
  [[nodiscard]] std::string violated_in_kernel() const {
    std::vector<PollerEntry> entries;
    if (!read_poller_entries(reactor.poller_fd(), entries)) return {};
    std::vector<bool> found(reactor.slots_.size());
    for (const PollerEntry& entry : entries) {
      if (static_cast<std::int32_t>(entry.token & 0xFFFF'FFFF) < 0) continue;  // the wake-up
      const Watcher* watcher = watcher_of(entry.fd);
      if (watcher == nullptr || !watcher->has_entry_ || entry.token != reactor.token_of(entry.fd)) {
        if (is_dropped(entry, watcher)) return about(entry.fd, "the poller watches it, and its events are dropped");
        continue;
      }
      found[static_cast<std::size_t>(entry.fd)] = true;
      const unsigned wanted = watcher->interest_ == interest_none ? unsigned{interest_once} : watcher->interest_;
      if (entry.interest != wanted) return about(entry.fd, "the poller watches for something else than its watcher");
    }
    return violated_by_missing(found);
  }

  // True if the events of an entry that no watcher knows are for a file that is still in use. Otherwise other code has
  // closed the descriptor, and the reactor finds the orphaned entry by its events.
  static bool is_dropped(const PollerEntry& entry, const Watcher* watcher) noexcept {
    return entry.interest != interest_once && entry.inode != 0 && entry.inode == inode_of(entry.fd) &&
           (watcher == nullptr || watcher->inode_ == entry.inode);
  }

  // `found`, by number: whether the poller has the entry of the watcher.
  [[nodiscard]] std::string violated_by_missing(const std::vector<bool>& found) const {
    for (std::size_t number = 0; number < found.size(); ++number) {
      const Watcher* watcher = reactor.slots_[number].watcher;
      if (watcher == nullptr || watcher->interest_ == interest_none || found[number]) continue;
      // Unless other code has closed the descriptor, which the reactor finds out later.
      if (watcher->inode_ != 0 && watcher->inode_ == inode_of(watcher->fd_)) {
        return about(watcher->fd_, "its watcher has an interest, and the poller does not watch it");
      }
    }
    return {};
  }
#else
  [[nodiscard]] std::string violated_in_kernel() const { return {}; }  // a kqueue does not tell what it watches
#endif

  [[nodiscard]] const Watcher* watcher_of(int fd) const noexcept {
    const auto number = static_cast<std::size_t>(fd);
    return fd >= 0 && number < reactor.slots_.size() ? reactor.slots_[number].watcher : nullptr;
  }
};

std::string violated_invariant(const Reactor& reactor) {
  if (!reactor.is_open() || reactor.fork_mark_.inherited()) return {};
  const Invariants invariants{reactor};
  const std::string violated = invariants.violated_in_tables();
  return violated.empty() ? invariants.violated_in_kernel() : violated;
}

void check_invariants(Reactor& reactor) noexcept {
  if (reactor.unchecked_turns_ > 0) {
    --reactor.unchecked_turns_;
    return;
  }
  try {
    const std::string violated = violated_invariant(reactor);
    if (!violated.empty()) {
      static_cast<void>(
          std::fprintf(stderr, "zloop: an invariant of the engine does not hold: %s\n", violated.c_str()));
      std::abort();
    }
    reactor.unchecked_turns_ = reactor.watched_ / asked_each_turn;
  } catch (const std::bad_alloc&) {
    return;  // checked in the next turn
  }
}

#else

NamedCount live_count(std::size_t /*index*/) noexcept { return {.name = nullptr, .count = 0}; }

#endif

}  // namespace zloop
