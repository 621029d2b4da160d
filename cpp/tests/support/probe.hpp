// A watcher that records its notifications, then runs the callback that the test set.
#pragma once

#include <functional>
#include <vector>

#include "support/catch.hpp"
#include "zloop/reactor.hpp"

namespace zloop::test {

struct Probe {
  Probe() { watcher.set_owner(this); }
  ~Probe() = default;
  Probe(const Probe&) = delete;
  Probe& operator=(const Probe&) = delete;

  static void on_ready(Watcher& watcher, unsigned ready) noexcept {
    auto& probe = *static_cast<Probe*>(OwnedWatcher::owner_of(watcher));
    probe.notified.push_back(ready);
    if (probe.react) probe.react();
  }

  int attach(Reactor& reactor, int fd) { return reactor.attach(watcher, fd, ops); }
  // As the exclusive user of the descriptor.
  int attach_as_user(Reactor& reactor, int fd) { return reactor.attach(watcher, fd, user_ops); }

  // Attaches the watcher and sets its interest.
  void watch(Reactor& reactor, int fd, unsigned interest) {
    REQUIRE(attach(reactor, fd) == 0);
    REQUIRE(reactor.set_interest(watcher, interest) == 0);
  }

  static constexpr WatcherOps ops{.on_ready = &Probe::on_ready};
  static constexpr WatcherOps user_ops{.on_ready = &Probe::on_ready, .user = &OwnedWatcher::owner_of};
  OwnedWatcher watcher;
  std::vector<unsigned> notified;
  std::function<void()> react;
};

}  // namespace zloop::test
