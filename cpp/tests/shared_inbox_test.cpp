#include "zloop/shared_inbox.hpp"

#include <poll.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <new>
#include <thread>
#include <vector>

#include "support/allocation.hpp"
#include "support/catch.hpp"
#include "support/sockets.hpp"
#include "zloop/clock.hpp"
#include "zloop/wakeup.hpp"

namespace {

using zloop::ReadyQueue;
using zloop::SharedInbox;
using zloop::Wakeup;
using zloop::test::with_allocations;

constexpr std::size_t threads_count = 4;

// Each item is a place in memory that tells which of its thread's it is.
class Items {
 public:
  explicit Items(std::size_t each) : each_(each), places_(threads_count * each) {}

  [[nodiscard]] std::size_t size() const { return places_.size(); }
  void* of(std::size_t thread, std::size_t number) { return &places_.at((thread * each_) + number); }

  // Checks that it is the next one of its thread.
  void take(void* item) {
    const auto index = static_cast<std::size_t>(static_cast<char*>(item) - places_.data());
    REQUIRE(index < places_.size());
    std::size_t& next = next_.at(index / each_);
    REQUIRE(index % each_ == next);
    ++next;
  }

 private:
  std::size_t each_;
  std::vector<char> places_;
  std::array<std::size_t, threads_count> next_{};
};

TEST_CASE("a shared inbox hands on what was pushed, in order, behind what the queue holds") {
  Items items(3);
  ReadyQueue queue;
  SharedInbox inbox;
  queue.push_back(items.of(0, 0));
  CHECK_FALSE(inbox.pending());
  inbox.push(items.of(0, 1));
  inbox.push(items.of(0, 2));
  CHECK(inbox.pending());
  CHECK(inbox.take_into(queue) == 2);
  CHECK_FALSE(inbox.pending());
  CHECK(inbox.take_into(queue) == 0);
  REQUIRE(queue.size() == 3);
  while (!queue.empty()) items.take(queue.pop_front());
}

TEST_CASE("visiting a shared inbox sees each item, until asked to stop") {
  Items items(2);
  SharedInbox inbox;
  inbox.push(items.of(0, 0));
  inbox.push(items.of(0, 1));
  std::vector<void*> seen;
  CHECK(inbox.for_each([&](void* item) {
    seen.push_back(item);
    return 0;
  }) == 0);
  CHECK(seen.size() == 2);
  CHECK(inbox.for_each([](void*) { return 17; }) == 17);
}

TEST_CASE("a shared inbox that finds no memory takes nothing") {
  Items items(1);
  SharedInbox inbox;
  REQUIRE_THROWS_AS(with_allocations(0, [&] { inbox.push(items.of(0, 0)); }), std::bad_alloc);
  CHECK_FALSE(inbox.pending());
}

TEST_CASE("when memory runs out half-way, what was not moved stays in the shared inbox, and is visited") {
  Items items(100);
  SharedInbox inbox;
  for (std::size_t i = 0; i < 100; ++i) inbox.push(items.of(0, i));
  ReadyQueue queue;
  // The queue's first memory is granted, and too small for all of them.
  REQUIRE_THROWS_AS(with_allocations(1, [&] { inbox.take_into(queue); }), std::bad_alloc);
  const std::size_t moved = queue.size();
  REQUIRE(moved > 0);
  REQUIRE(moved < 100);
  CHECK(inbox.pending());
  std::size_t seen = 0;
  inbox.for_each([&](void*) { return ++seen, 0; });
  CHECK(seen == 100 - moved);
  CHECK(inbox.take_into(queue) == 100 - moved);
  while (!queue.empty()) items.take(queue.pop_front());
}

TEST_CASE("threads push without a lock while the loop takes and sleeps: nothing is lost, doubled, or out of order") {
  constexpr std::size_t each = 5'000;
  Items items(each);
  SharedInbox inbox;
  Wakeup wakeup;
  REQUIRE(wakeup.open() == 0);
  std::vector<std::jthread> threads;
  threads.reserve(threads_count);
  for (std::size_t thread = 0; thread < threads_count; ++thread) {
    threads.emplace_back([&, thread] {
      for (std::size_t i = 0; i < each; ++i) {
        inbox.push(items.of(thread, i));
        wakeup.notify();
        // Now and then the loop is to have nothing left, so that it goes to sleep.
        if (i % 16 == 0) std::this_thread::yield();
      }
    });
  }
  ReadyQueue queue;
  std::size_t taken = 0;
  while (taken < items.size()) {
    if (!inbox.pending() && wakeup.try_sleep()) {
      pollfd sleeping{.fd = wakeup.fd(), .events = POLLIN, .revents = 0};
      REQUIRE(::poll(&sleeping, 1, zloop::test::patience_ns / 1'000'000) == 1);  // 0: a notification was lost
      std::uint64_t writes = 0;
      REQUIRE(::read(wakeup.fd(), &writes, sizeof(writes)) > 0);
    }
    wakeup.awake();
    taken += inbox.take_into(queue);
    while (!queue.empty()) items.take(queue.pop_front());
  }
  CHECK(taken == items.size());
  CHECK_FALSE(inbox.pending());
}

#ifdef ZLOOP_FREE_THREADED
TEST_CASE("threads notify without a lock while the wake-up is closed: none writes to the number's next file") {
  for (int round = 0; round < 200; ++round) {
    Wakeup wakeup;
    REQUIRE(wakeup.open() == 0);
    const int number = wakeup.fd();
    REQUIRE(wakeup.try_sleep());
    std::vector<std::jthread> threads;
    threads.reserve(threads_count);
    for (std::size_t thread = 0; thread < threads_count; ++thread) threads.emplace_back([&] { wakeup.notify(); });
    wakeup.close();
    const zloop::test::Pair pair = zloop::test::make_pair();
    REQUIRE(std::min(pair.ours.get(), pair.theirs.get()) == number);
    threads.clear();
    CHECK(zloop::test::take(pair.ours.get()).empty());
    CHECK(zloop::test::take(pair.theirs.get()).empty());
  }
}
#endif

}  // namespace
