#include "zloop/inbox.hpp"

#include <array>
#include <cstddef>
#include <mutex>
#include <new>
#include <thread>
#include <vector>

#include "support/allocation.hpp"
#include "support/catch.hpp"
#include "support/sockets.hpp"
#include "zloop/clock.hpp"

namespace {

using zloop::Inbox;
using zloop::ReadyQueue;
using zloop::test::with_allocations;

class Items {
 public:
  explicit Items(std::size_t count) : items_(count) {}
  void* operator[](std::size_t i) { return &items_[i]; }

 private:
  std::vector<char> items_;
};

TEST_CASE("an inbox hands on what was pushed, in order, behind what the queue holds") {
  Items items(6);
  ReadyQueue queue;
  queue.push_back(items[0]);
  queue.push_back(items[1]);
  Inbox inbox;
  for (std::size_t i = 2; i < 6; ++i) inbox.push(items[i]);
  CHECK(inbox.take_into(queue) == 4);
  CHECK(inbox.take_into(queue) == 0);
  REQUIRE(queue.size() == 6);
  for (std::size_t i = 0; i < 6; ++i) CHECK(queue.pop_front() == items[i]);
}

TEST_CASE("pending() says whether there is something to take") {
  Items items(1);
  ReadyQueue queue;
  Inbox inbox;
  CHECK_FALSE(inbox.pending());
  inbox.push(items[0]);
  CHECK(inbox.pending());
  inbox.take_into(queue);
  CHECK_FALSE(inbox.pending());
}

TEST_CASE("visiting sees each item in order, until asked to stop") {
  Items items(3);
  Inbox inbox;
  for (std::size_t i = 0; i < 3; ++i) inbox.push(items[i]);
  std::vector<void*> seen;
  const auto visit_up_to = [&](std::size_t count) {
    seen.clear();
    return inbox.for_each([&](void* item) {
      seen.push_back(item);
      return seen.size() == count ? 17 : 0;
    });
  };
  CHECK(visit_up_to(2) == 17);
  CHECK(seen == std::vector<void*>{items[0], items[1]});
  CHECK(visit_up_to(4) == 0);
  CHECK(seen == std::vector<void*>{items[0], items[1], items[2]});
}

TEST_CASE("an inbox that finds no memory takes nothing") {
  Items items(1);
  Inbox inbox;
  REQUIRE_THROWS_AS(with_allocations(0, [&] { inbox.push(items[0]); }), std::bad_alloc);
  CHECK_FALSE(inbox.pending());
  CHECK(inbox.for_each([](void*) { return 1; }) == 0);
}

TEST_CASE("when memory runs out half-way, what was not moved stays, in order") {
  Items items(100);
  Inbox inbox;
  for (std::size_t i = 0; i < 100; ++i) inbox.push(items[i]);
  ReadyQueue queue;
  // The queue's first memory is granted, and too small for all of them.
  REQUIRE_THROWS_AS(with_allocations(1, [&] { inbox.take_into(queue); }), std::bad_alloc);
  REQUIRE_FALSE(queue.empty());
  REQUIRE(queue.size() < 100);
  CHECK(inbox.pending());
  const std::size_t left = 100 - queue.size();
  CHECK(inbox.take_into(queue) == left);
  REQUIRE(queue.size() == 100);
  for (std::size_t i = 0; i < 100; ++i) CHECK(queue.pop_front() == items[i]);
}

TEST_CASE("many threads push while the loop takes: nothing is lost, doubled, or out of its thread's order") {
  constexpr std::size_t threads_count = 4;
  constexpr std::size_t each = 20'000;
  Items items(threads_count * each);
  Inbox inbox;
  std::mutex lock;
  std::vector<std::jthread> threads;
  threads.reserve(threads_count);
  for (std::size_t t = 0; t < threads_count; ++t) {
    threads.emplace_back([&inbox, &lock, &items, t] {
      for (std::size_t i = 0; i < each; ++i) {
        const std::scoped_lock guard(lock);
        inbox.push(items[(t * each) + i]);
      }
    });
  }
  ReadyQueue queue;
  std::array<std::size_t, threads_count> next{};
  const std::int64_t give_up_ns = zloop::monotonic_ns() + zloop::test::patience_ns;
  for (std::size_t taken = 0; taken < threads_count * each;) {
    REQUIRE(zloop::monotonic_ns() < give_up_ns);
    const std::size_t before = taken;
    {
      const std::scoped_lock guard(lock);
      taken += inbox.take_into(queue);
    }
    if (taken == before) std::this_thread::yield();
    while (!queue.empty()) {
      const auto index = static_cast<std::size_t>(static_cast<char*>(queue.pop_front()) - static_cast<char*>(items[0]));
      const std::size_t thread = index / each;
      REQUIRE(thread < threads_count);
      REQUIRE(index % each == next.at(thread));
      ++next.at(thread);
    }
  }
  CHECK_FALSE(inbox.pending());
}

}  // namespace
