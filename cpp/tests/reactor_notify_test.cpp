// Notifications: what other threads do to a reactor that waits.
#include <algorithm>
#include <atomic>
#include <cstdint>
#include <deque>
#include <mutex>
#include <stop_token>
#include <thread>

#include "support/catch.hpp"
#include "support/open_reactor.hpp"
#include "support/sockets.hpp"
#include "zloop/clock.hpp"
#include "zloop/inbox.hpp"
#include "zloop/reactor.hpp"

namespace {

using zloop::Reactor;
using zloop::test::OpenReactor;
using zloop::test::patience_ns;

// How long a wait lasts that ought not to last.
std::int64_t waited_ns(Reactor& reactor) {
  const std::int64_t before = zloop::monotonic_ns();
  CHECK(reactor.wait(patience_ns) >= 0);
  return zloop::monotonic_ns() - before;
}

TEST_CASE("a notification makes the next wait return") {
  OpenReactor reactor;
  CHECK_FALSE(reactor.notify());
  CHECK(waited_ns(reactor) < patience_ns);
  const std::int64_t timeout_ns = 2'000'000;
  const std::int64_t before = zloop::monotonic_ns();
  CHECK(reactor.wait(timeout_ns) == 0);  // that was the only one
  CHECK(zloop::monotonic_ns() - before >= timeout_ns);
}

TEST_CASE("a notification makes a wait return that is going on") {
  OpenReactor reactor;
  const std::jthread notifier([&reactor] {
    // True from a thread that found it asleep.
    while (!reactor.notify()) std::this_thread::yield();
  });
  int waited = 0;
  while (waited == 0) waited = reactor.wait(-1);
  CHECK(waited == 1);
  reactor.dispatch();
  CHECK(reactor.wait(0) == 0);
}

// A thread that leaves one item after another in the loop's inbox, each when the loop has taken the one before, until
// it has found the loop asleep so many times. The items are the producer itself.
class Producer {
 public:
  static constexpr int wakes_wanted = 300;

  Producer(Reactor& reactor, zloop::Inbox& inbox, std::mutex& lock)
      : reactor_(reactor), inbox_(inbox), lock_(lock), thread_([this](const std::stop_token& stop) { run(stop); }) {}

  void take() {
    ++taken_;
    taken_.notify_one();
  }
  [[nodiscard]] bool running() const { return running_; }

  // How often it has found the loop asleep; ends the thread.
  int wakes() {
    thread_.request_stop();
    thread_.join();
    return wakes_;
  }

 private:
  void run(const std::stop_token& stop) {
    const std::stop_callback wakes_this(stop, [this] { take(); });
    for (int left = 0; wakes_ < wakes_wanted && !stop.stop_requested(); ++left) {
      leave_item();
      taken_.wait(left);
    }
    running_ = false;
    const std::scoped_lock guard(lock_);
    if (reactor_.notify()) ++wakes_;
  }

  void leave_item() {
    const std::scoped_lock guard(lock_);
    inbox_.push(this);
    if (reactor_.notify()) ++wakes_;
  }

  Reactor& reactor_;
  zloop::Inbox& inbox_;
  std::mutex& lock_;  // of the inbox
  std::atomic<int> taken_{0};
  std::atomic<bool> running_{true};
  int wakes_ = 0;  // the thread's, until it has ended
  std::jthread thread_;
};

TEST_CASE("threads that leave work while the loop goes to sleep: all of it is found, no wake-up is doubled") {
  OpenReactor reactor;
  zloop::Inbox inbox;
  std::mutex lock;
  zloop::ReadyQueue queue;
  std::deque<Producer> producers;
  for (int i = 0; i < 4; ++i) producers.emplace_back(reactor, inbox, lock);
  int waits = 0;
  while (std::ranges::any_of(producers, &Producer::running)) {
    ++waits;
    const std::int64_t before = zloop::monotonic_ns();
    REQUIRE(reactor.wait(patience_ns) >= 0);
    REQUIRE(zloop::monotonic_ns() - before < patience_ns);  // or a notification was lost
    reactor.dispatch();
    {
      const std::scoped_lock guard(lock);
      inbox.take_into(queue);
    }
    while (!queue.empty()) static_cast<Producer*>(queue.pop_front())->take();
  }
  int wakes = 0;
  for (Producer& producer : producers) wakes += producer.wakes();
  CHECK(wakes >= 4 * Producer::wakes_wanted);
  CHECK(wakes <= waits);
}

}  // namespace
