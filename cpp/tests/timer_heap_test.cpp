#include "zloop/timer_heap.hpp"

#include <algorithm>
#include <array>
#include <cstdint>
#include <deque>
#include <functional>
#include <limits>
#include <map>
#include <new>
#include <random>
#include <vector>

#include "support/allocation.hpp"
#include "support/catch.hpp"

namespace {

using zloop::ReadyQueue;
using zloop::TimerHeap;
using zloop::TimerNode;
using zloop::test::with_allocations;

struct Timer {
  explicit Timer(int with_id = 0) : id(with_id) {}
  ~Timer() = default;
  Timer(const Timer&) = delete;
  Timer& operator=(const Timer&) = delete;

  void push(TimerHeap& heap, std::int64_t deadline_ns) { heap.push(node, this, deadline_ns); }

  static void release(void* owner) {
    auto& timer = *static_cast<Timer*>(owner);
    ++timer.releases;
    if (timer.on_release) timer.on_release();
  }

  TimerNode node;
  int id;
  int releases = 0;
  std::function<void()> on_release;
};

// `count` timers with ids from 0; a deque, because they must not move.
std::deque<Timer> make_timers(int count) {
  std::deque<Timer> timers;
  for (int id = 0; id < count; ++id) timers.emplace_back(id);
  return timers;
}

// Each with its id for a deadline.
void push_all(TimerHeap& heap, std::deque<Timer>& timers) {
  for (Timer& timer : timers) timer.push(heap, timer.id);
}

std::vector<int> due_ids(TimerHeap& heap, std::int64_t now_ns = TimerHeap::never) {
  ReadyQueue queue;
  heap.take_due(now_ns, queue);
  std::vector<int> ids;
  while (!queue.empty()) ids.push_back(static_cast<Timer*>(queue.pop_front())->id);
  return ids;
}

TEST_CASE("an empty heap has no deadline and nothing due") {
  TimerHeap heap;
  Timer timer;
  CHECK(heap.size() == 0);
  CHECK(heap.next_deadline() == TimerHeap::never);
  CHECK(due_ids(heap).empty());
  CHECK_FALSE(heap.holds(timer.node));
  CHECK_FALSE(heap.remove(timer.node));
}

TEST_CASE("timers come out by deadline, whatever order they were pushed in") {
  std::vector<int> order{0, 1, 2, 3, 4, 5, 6};
  for (bool more = true; more; more = std::ranges::next_permutation(order).found) {
    std::deque<Timer> timers = make_timers(7);
    TimerHeap heap;
    for (const int id : order) timers[static_cast<std::size_t>(id)].push(heap, 100 + id);
    REQUIRE(due_ids(heap) == std::vector<int>{0, 1, 2, 3, 4, 5, 6});
  }
}

TEST_CASE("equal deadlines come out in the order they were pushed") {
  std::deque<Timer> timers = make_timers(300);
  TimerHeap heap;
  std::vector<int> expected;
  for (Timer& timer : timers) timer.push(heap, timer.id % 3);
  for (int remainder = 0; remainder < 3; ++remainder) {
    for (int id = remainder; id < 300; id += 3) expected.push_back(id);
  }
  CHECK(due_ids(heap) == expected);
}

TEST_CASE("a timer is due from its deadline on, and not before") {
  Timer timer;
  TimerHeap heap;
  timer.push(heap, 1000);
  CHECK(heap.holds(timer.node));
  CHECK(heap.next_deadline() == 1000);
  CHECK(due_ids(heap, 999).empty());
  CHECK(due_ids(heap, 1000) == std::vector<int>{0});
  CHECK_FALSE(heap.holds(timer.node));
}

TEST_CASE("a node may stand anywhere in its owner") {
  struct Owner {
    std::int64_t before = 0;
    TimerNode node;
  };
  Owner first;
  Owner second;
  TimerHeap heap;
  heap.push(second.node, &second, 2);
  heap.push(first.node, &first, 1);
  CHECK(heap.holds(first.node));
  CHECK(heap.holds(second.node));
  CHECK(heap.remove(first.node));
  ReadyQueue queue;
  heap.take_due(2, queue);
  REQUIRE_FALSE(queue.empty());
  CHECK(queue.pop_front() == &second);
  CHECK(first.before + second.before == 0);  // what stands before a node is the owner's
}

// By index, each not before its parent: so they stay as they are pushed. The entry 4 is the root's last child; the
// entry 1, which is late, is the root's child, too.
constexpr std::array<std::int64_t, 21> late_branch{
    0, 1000, 10, 10, 10, 2000, 2000, 2000, 2000, 50, 50, 50, 50, 50, 50, 50, 50, 20, 40, 40, 30,
};

void push_late_branch(TimerHeap& heap, std::deque<Timer>& timers) {
  for (std::size_t index = 0; index < late_branch.size(); ++index) timers[index].push(heap, late_branch.at(index));
  REQUIRE(timers[4].node.index == 4);
  REQUIRE(timers[20].node.index == 20);
}

TEST_CASE("the timer that fills a gap goes below what is due before it, whatever its index") {
  std::deque<Timer> timers = make_timers(static_cast<int>(late_branch.size()));
  TimerHeap heap;
  push_late_branch(heap, timers);
  REQUIRE(heap.remove(timers[4].node));
  CHECK(timers[20].node.index == 17);
  CHECK(due_ids(heap, 25) == std::vector<int>{0, 2, 3, 17});
  CHECK(due_ids(heap, 30) == std::vector<int>{20});
}

TEST_CASE("the timer that fills a gap goes above what is due after it") {
  std::deque<Timer> timers = make_timers(static_cast<int>(late_branch.size()));
  TimerHeap heap;
  push_late_branch(heap, timers);
  REQUIRE(heap.remove(timers[5].node));
  CHECK(timers[20].node.index == 1);
  CHECK(timers[1].node.index == 5);
  CHECK(due_ids(heap, 30) == std::vector<int>{0, 2, 3, 4, 17, 20});
}

TEST_CASE("what is due goes behind what the queue holds, and the rest stays") {
  std::deque<Timer> timers = make_timers(100);
  Timer first(1000);
  TimerHeap heap;
  for (int id = 99; id >= 0; --id) timers[static_cast<std::size_t>(id)].push(heap, id);
  ReadyQueue queue;
  queue.push_back(&first);
  heap.take_due(63, queue);
  REQUIRE(queue.size() == 65);
  CHECK(queue.pop_front() == &first);
  for (int id = 0; id < 64; ++id) REQUIRE(queue.pop_front() == &timers[static_cast<std::size_t>(id)]);
  CHECK(heap.size() == 36);
  CHECK(heap.next_deadline() == 64);
  CHECK(due_ids(heap).front() == 64);
}

TEST_CASE("negative deadlines come first") {
  std::deque<Timer> timers = make_timers(3);
  TimerHeap heap;
  timers[2].push(heap, TimerHeap::never - 1);
  timers[1].push(heap, 0);
  timers[0].push(heap, std::numeric_limits<std::int64_t>::min());
  CHECK(due_ids(heap) == std::vector<int>{0, 1, 2});
}

TEST_CASE("thousands come out by deadline, and by order of pushes where it is the same, however far they are apart") {
  using Limits = std::numeric_limits<std::int64_t>;
  const auto earliest = GENERATE(Limits::min(), std::int64_t{-100}, std::int64_t{1'000'000'000});
  const std::uint64_t range = GENERATE(as<std::uint64_t>(), 0, 1, 255, 256, 70'000, Limits::max());
  constexpr int count = 5000;
  std::deque<Timer> timers = make_timers(count);
  TimerHeap heap;
  std::multimap<std::int64_t, int> expected;
  std::mt19937_64 random(27182818);
  for (Timer& timer : timers) {
    const auto deadline = static_cast<std::int64_t>(static_cast<std::uint64_t>(earliest) + (random() % (range + 1)));
    timer.push(heap, deadline);
    expected.emplace(deadline, timer.id);
  }
  std::vector<int> ids;
  for (const auto& [deadline, id] : expected) ids.push_back(id);
  CHECK(due_ids(heap) == ids);
}

TEST_CASE("a timer that was taken out can be pushed again") {
  Timer timer;
  TimerHeap heap;
  timer.push(heap, 1);
  REQUIRE(due_ids(heap, 1).size() == 1);
  timer.push(heap, 2);
  REQUIRE(heap.remove(timer.node));
  timer.push(heap, 3);
  CHECK(due_ids(heap, 3).size() == 1);
}

TEST_CASE("a timer is removed from wherever it stands") {
  for (int removed = 0; removed < 30; ++removed) {
    std::deque<Timer> timers = make_timers(30);
    TimerHeap heap;
    for (Timer& timer : timers) timer.push(heap, timer.id * 7 % 30);
    REQUIRE(heap.remove(timers[static_cast<std::size_t>(removed)].node));
    REQUIRE_FALSE(heap.holds(timers[static_cast<std::size_t>(removed)].node));
    REQUIRE(heap.size() == 29);
    std::vector<int> expected;
    for (int deadline = 0; deadline < 30; ++deadline) {
      if (const int id = deadline * 13 % 30; id != removed) expected.push_back(id);
    }
    REQUIRE(due_ids(heap) == expected);
  }
}

TEST_CASE("what takes a removed timer's place goes up where it must") {
  // The last one is earlier than all that stand below the other child of the top.
  const std::vector<std::int64_t> deadlines{0, 100, 10, 11, 12, 101, 102, 103, 104, 13, 14};
  std::deque<Timer> timers = make_timers(11);
  TimerHeap heap;
  for (Timer& timer : timers) timer.push(heap, deadlines[static_cast<std::size_t>(timer.id)]);
  REQUIRE(heap.remove(timers[6].node));
  CHECK(due_ids(heap) == std::vector<int>{0, 2, 3, 4, 9, 10, 1, 5, 7, 8});
}

TEST_CASE("a timer is removed once, and not when it has been taken out") {
  std::deque<Timer> timers = make_timers(3);
  TimerHeap heap;
  push_all(heap, timers);
  REQUIRE(due_ids(heap, 0) == std::vector<int>{0});
  CHECK_FALSE(heap.remove(timers[0].node));  // another stands where it did
  CHECK(heap.remove(timers[1].node));
  CHECK_FALSE(heap.remove(timers[1].node));
  CHECK(due_ids(heap) == std::vector<int>{2});
}

TEST_CASE("clearing releases every entry once") {
  std::deque<Timer> timers = make_timers(10);
  TimerHeap heap;
  push_all(heap, timers);
  heap.remove(timers[4].node);
  heap.clear(&Timer::release);
  CHECK(heap.size() == 0);
  for (const Timer& timer : timers) {
    CHECK(timer.releases == (timer.id == 4 ? 0 : 1));
    CHECK_FALSE(heap.holds(timer.node));
  }
}

TEST_CASE("a release while the heap is cleared may push and remove") {
  std::deque<Timer> timers = make_timers(3);
  Timer born(7);
  TimerHeap heap;
  push_all(heap, timers);
  timers[0].on_release = [&] {
    born.push(heap, 7);
    CHECK_FALSE(heap.remove(timers[2].node));
  };
  heap.clear(&Timer::release);
  for (const Timer& timer : timers) CHECK(timer.releases == 1);
  CHECK(due_ids(heap, 7) == std::vector<int>{7});
}

TEST_CASE("visiting sees the owner of every entry, until asked to stop") {
  std::deque<Timer> timers = make_timers(3);
  TimerHeap heap;
  push_all(heap, timers);
  std::vector<void*> seen;
  CHECK(heap.for_each_owner([&](void* owner) {
    seen.push_back(owner);
    return 0;
  }) == 0);
  std::ranges::sort(seen);
  std::vector<void*> expected{&timers[0], &timers[1], &timers[2]};
  std::ranges::sort(expected);
  CHECK(seen == expected);
  CHECK(heap.for_each_owner([](void*) { return 42; }) == 42);
}

TEST_CASE("a heap that finds no memory takes nothing") {
  Timer timer;
  TimerHeap heap;
  REQUIRE_THROWS_AS(with_allocations(0, [&] { timer.push(heap, 1); }), std::bad_alloc);
  CHECK_FALSE(heap.holds(timer.node));
  CHECK(heap.size() == 0);
}

TEST_CASE("what is due stays where memory for it is not to be had") {
  std::deque<Timer> timers = make_timers(100);
  TimerHeap heap;
  push_all(heap, timers);
  ReadyQueue queue;
  int allocations = 0;
  for (bool taken = false; !taken; ++allocations) {
    REQUIRE(allocations < 30);
    REQUIRE(heap.size() == 100);
    REQUIRE(queue.empty());
    try {
      with_allocations(allocations, [&] { heap.take_due(TimerHeap::never, queue); });
      taken = true;
    } catch (const std::bad_alloc&) {
      continue;
    }
  }
  CHECK(allocations > 3);
  CHECK(heap.size() == 0);
  CHECK(queue.size() == 100);
}

// The heap and a model of it, a multimap: that keeps equal deadlines in the order of insertion, too.
class RandomWalk {
 public:
  // A push in so many of a hundred steps, at most 80, and a look at what is due in 20; else something is removed.
  void step(unsigned pushes_percent) {
    const std::uint64_t choice = random_() % 100;
    if (choice < pushes_percent) {
      push();
    } else if (choice < 80) {
      remove();
    } else {
      take_due(now_ + static_cast<std::int64_t>(random_() % 40));
    }
  }

  void take_everything() {
    take_due(TimerHeap::never);
    REQUIRE(heap_.size() == 0);
  }

 private:
  using Model = std::multimap<std::int64_t, Timer*>;

  void push() {
    Timer& timer = timers_.emplace_back(static_cast<int>(timers_.size()));
    const std::int64_t deadline = now_ + static_cast<std::int64_t>(random_() % 500);
    timer.push(heap_, deadline);
    model_.emplace(deadline, &timer);
  }

  void remove() {
    if (timers_.empty()) return;
    Timer& timer = timers_[random_() % timers_.size()];
    const std::size_t removed = std::erase_if(model_, [&](const auto& entry) { return entry.second == &timer; });
    REQUIRE(heap_.holds(timer.node) == (removed == 1));
    REQUIRE(heap_.remove(timer.node) == (removed == 1));
  }

  void take_due(std::int64_t now_ns) {
    now_ = now_ns;
    REQUIRE(heap_.next_deadline() == (model_.empty() ? TimerHeap::never : model_.begin()->first));
    std::vector<int> expected;
    const auto end = model_.upper_bound(now_);
    for (auto entry = model_.begin(); entry != end; ++entry) expected.push_back(entry->second->id);
    model_.erase(model_.begin(), end);
    REQUIRE(due_ids(heap_, now_) == expected);
  }

  std::mt19937 random_{314159};
  std::int64_t now_ = 0;
  std::deque<Timer> timers_;
  TimerHeap heap_;
  Model model_;
};

TEST_CASE("it agrees with a multimap over a random walk") {
  RandomWalk walk;
  for (const unsigned pushes_percent : {75U, 40U, 60U, 30U}) {
    for (int step = 0; step < 2'500; ++step) walk.step(pushes_percent);
  }
  walk.take_everything();
}

}  // namespace
