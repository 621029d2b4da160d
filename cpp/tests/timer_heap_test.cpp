#include "zloop/timer_heap.hpp"

#include <algorithm>
#include <deque>
#include <functional>
#include <map>
#include <new>
#include <random>
#include <vector>

#include "support/allocation.hpp"
#include "support/catch.hpp"

namespace {

using zloop::TimerHeap;
using zloop::TimerNode;
using zloop::test::with_allocations;

struct Timer {
  Timer() { node.owner = this; }
  explicit Timer(int with_id) : id(with_id) { node.owner = this; }
  ~Timer() = default;
  Timer(const Timer&) = delete;
  Timer& operator=(const Timer&) = delete;

  static void release(void* owner) noexcept {
    auto& timer = *static_cast<Timer*>(owner);
    ++timer.releases;
    if (timer.on_release) timer.on_release();
  }

  TimerNode node;
  int id = 0;
  int releases = 0;
  std::function<void()> on_release;
};

// `count` timers with ids from 0; a deque, because they must not move.
std::deque<Timer> make_timers(int count) {
  std::deque<Timer> timers;
  for (int id = 0; id < count; ++id) timers.emplace_back(id);
  return timers;
}

int pop_id(TimerHeap& heap, std::int64_t now_ns) {
  void* owner = heap.pop_due(now_ns);
  return owner == nullptr ? -1 : static_cast<Timer*>(owner)->id;
}

std::vector<int> pop_all(TimerHeap& heap, std::int64_t now_ns = TimerHeap::never) {
  std::vector<int> ids;
  for (int id = pop_id(heap, now_ns); id >= 0; id = pop_id(heap, now_ns)) ids.push_back(id);
  return ids;
}

TEST_CASE("an empty heap has no deadline and nothing due") {
  TimerHeap heap(&Timer::release);
  CHECK(heap.size() == 0);
  CHECK(heap.next_deadline() == TimerHeap::never);
  CHECK(heap.pop_due(TimerHeap::never) == nullptr);
}

TEST_CASE("timers come out by deadline, whatever order they were pushed in") {
  std::vector<int> order{0, 1, 2, 3, 4, 5, 6};
  for (bool more = true; more; more = std::ranges::next_permutation(order).found) {
    std::deque<Timer> timers = make_timers(7);
    TimerHeap heap(&Timer::release);
    for (const int id : order) heap.push(timers[static_cast<std::size_t>(id)].node, 100 + id);
    REQUIRE(pop_all(heap) == std::vector<int>{0, 1, 2, 3, 4, 5, 6});
  }
}

TEST_CASE("equal deadlines come out in the order they were pushed") {
  std::deque<Timer> timers = make_timers(300);
  TimerHeap heap(&Timer::release);
  std::vector<int> expected;
  for (Timer& timer : timers) heap.push(timer.node, timer.id % 3);
  for (int remainder = 0; remainder < 3; ++remainder) {
    for (int id = remainder; id < 300; id += 3) expected.push_back(id);
  }
  CHECK(pop_all(heap) == expected);
}

TEST_CASE("a timer is due from its deadline on, and not before") {
  Timer timer;
  TimerHeap heap(&Timer::release);
  heap.push(timer.node, 1000);
  CHECK(timer.node.queued);
  CHECK(heap.next_deadline() == 1000);
  CHECK(heap.pop_due(999) == nullptr);
  CHECK(heap.pop_due(1000) == &timer);
  CHECK_FALSE(timer.node.queued);
  CHECK(timer.releases == 0);  // its reference went to the caller
}

TEST_CASE("negative deadlines come first") {
  std::deque<Timer> timers = make_timers(3);
  TimerHeap heap(&Timer::release);
  heap.push(timers[2].node, TimerHeap::never - 1);
  heap.push(timers[1].node, 0);
  heap.push(timers[0].node, std::numeric_limits<std::int64_t>::min());
  CHECK(pop_all(heap) == std::vector<int>{0, 1, 2});
}

TEST_CASE("a popped timer can be pushed again") {
  Timer timer;
  TimerHeap heap(&Timer::release);
  heap.push(timer.node, 1);
  REQUIRE(heap.pop_due(1) == &timer);
  heap.push(timer.node, 2);
  CHECK(heap.pop_due(2) == &timer);
}

TEST_CASE("the top, cancelled, is released when the heap is looked at") {
  std::deque<Timer> timers = make_timers(3);
  TimerHeap heap(&Timer::release);
  for (Timer& timer : timers) heap.push(timer.node, timer.id);
  CHECK(heap.cancel(timers[0].node));
  CHECK(timers[0].releases == 0);
  CHECK(heap.dead() == 1);
  CHECK(heap.next_deadline() == 1);
  CHECK(timers[0].releases == 1);
  CHECK_FALSE(timers[0].node.queued);
  CHECK(heap.dead() == 0);
  CHECK(pop_all(heap) == std::vector<int>{1, 2});
}

TEST_CASE("a timer in the middle, cancelled, is released when it reaches the top") {
  std::deque<Timer> timers = make_timers(5);
  TimerHeap heap(&Timer::release);
  for (Timer& timer : timers) heap.push(timer.node, timer.id);
  CHECK(heap.cancel(timers[2].node));
  CHECK(pop_id(heap, 10) == 0);
  CHECK(pop_id(heap, 10) == 1);
  CHECK(timers[2].releases == 0);
  CHECK(pop_id(heap, 10) == 3);
  CHECK(timers[2].releases == 1);
  CHECK(pop_id(heap, 10) == 4);
}

TEST_CASE("the timer pushed last, cancelled, is released at once") {
  std::deque<Timer> timers = make_timers(3);
  TimerHeap heap(&Timer::release);
  for (Timer& timer : timers) heap.push(timer.node, timer.id);
  CHECK(heap.cancel(timers[2].node));
  CHECK(timers[2].releases == 1);
  CHECK(heap.size() == 2);
  CHECK(heap.dead() == 0);
  CHECK(pop_all(heap) == std::vector<int>{0, 1});
}

TEST_CASE("the only timer, cancelled, leaves the heap empty") {
  Timer timer;
  TimerHeap heap(&Timer::release);
  heap.push(timer.node, 1);
  CHECK(heap.cancel(timer.node));
  CHECK(timer.releases == 1);
  CHECK(heap.size() == 0);
  CHECK(heap.next_deadline() == TimerHeap::never);
}

TEST_CASE("cancelling a popped timer only marks it") {
  std::deque<Timer> timers = make_timers(2);
  TimerHeap heap(&Timer::release);
  for (Timer& timer : timers) heap.push(timer.node, timer.id);
  REQUIRE(pop_id(heap, 0) == 0);
  CHECK(heap.cancel(timers[0].node));
  CHECK(timers[0].node.cancelled);
  CHECK(timers[0].releases == 0);
  CHECK(heap.dead() == 0);
  CHECK(pop_all(heap) == std::vector<int>{1});
}

TEST_CASE("a timer is cancelled once") {
  std::deque<Timer> timers = make_timers(2);
  TimerHeap heap(&Timer::release);
  for (Timer& timer : timers) heap.push(timer.node, timer.id);
  for (Timer& timer : timers) {
    CHECK(heap.cancel(timer.node));
    CHECK_FALSE(heap.cancel(timer.node));
  }
  CHECK(heap.next_deadline() == TimerHeap::never);
  for (const Timer& timer : timers) CHECK(timer.releases == 1);
}

// Pushes the timers in order and cancels those whose id is no multiple of three: enough for a compaction.
void cancel_two_thirds(TimerHeap& heap, std::deque<Timer>& timers) {
  for (Timer& timer : timers) heap.push(timer.node, 1000 - timer.id);
  for (Timer& timer : timers) {
    if (timer.id % 3 != 0) heap.cancel(timer.node);
  }
}

TEST_CASE("a heap that is mostly dead compacts itself") {
  std::deque<Timer> timers = make_timers(301);
  TimerHeap heap(&Timer::release);
  cancel_two_thirds(heap, timers);
  CHECK(heap.dead() <= heap.size() / 2);
  CHECK(heap.size() < 250);
  for (const Timer& timer : timers) {
    REQUIRE(timer.releases <= 1);
    REQUIRE(timer.node.queued == (timer.releases == 0));
    if (timer.id % 3 == 0) REQUIRE(timer.releases == 0);
  }
  std::vector<int> expected;
  for (int id = 300; id >= 0; id -= 3) expected.push_back(id);
  CHECK(pop_all(heap) == expected);
  for (const Timer& timer : timers) REQUIRE(timer.releases == (timer.id % 3 != 0 ? 1 : 0));
}

TEST_CASE("a hundred dead timers in front of one live one do not stay") {
  std::deque<Timer> timers = make_timers(101);
  TimerHeap heap(&Timer::release);
  for (Timer& timer : timers) heap.push(timer.node, timer.id);
  for (int id = 0; id < 100; ++id) heap.cancel(timers[static_cast<std::size_t>(id)].node);
  CHECK(heap.next_deadline() == 100);
  CHECK(heap.size() == 1);
  for (int id = 0; id < 100; ++id) REQUIRE(timers[static_cast<std::size_t>(id)].releases == 1);
}

TEST_CASE("a release during compaction may push and cancel") {
  std::deque<Timer> timers = make_timers(301);
  std::deque<Timer> born = make_timers(301);
  TimerHeap heap(&Timer::release);
  for (Timer& timer : timers) {
    timer.on_release = [&heap, &timers, &born, id = static_cast<std::size_t>(timer.id)] {
      heap.push(born[id].node, 5000 + static_cast<std::int64_t>(id));
      if (born[id / 2].node.queued) heap.cancel(born[id / 2].node);
      heap.cancel(timers[(id + 150) % 301].node);  // may be dead already, and about to be released
    };
  }
  for (Timer& timer : timers) heap.push(timer.node, timer.id);
  for (int id = 100; id < 300; ++id) heap.cancel(timers[static_cast<std::size_t>(id)].node);
  const std::vector<int> popped = pop_all(heap);
  CHECK(heap.size() == 0);
  CHECK(heap.dead() == 0);
  CHECK(popped.size() > 1);
  for (const Timer& timer : timers) {
    REQUIRE(timer.releases == (timer.node.cancelled ? 1 : 0));
    REQUIRE_FALSE(timer.node.queued);
  }
}

TEST_CASE("a release while the top is looked at may clear the heap") {
  std::deque<Timer> timers = make_timers(3);
  TimerHeap heap(&Timer::release);
  for (Timer& timer : timers) heap.push(timer.node, timer.id);
  timers[0].on_release = [&heap] { heap.clear(); };
  heap.cancel(timers[0].node);
  CHECK(heap.pop_due(10) == nullptr);
  for (const Timer& timer : timers) CHECK(timer.releases == 1);
}

TEST_CASE("clearing releases every entry once, dead ones too") {
  std::deque<Timer> timers = make_timers(10);
  TimerHeap heap(&Timer::release);
  for (Timer& timer : timers) heap.push(timer.node, timer.id);
  heap.cancel(timers[4].node);
  heap.clear();
  CHECK(heap.size() == 0);
  CHECK(heap.dead() == 0);
  for (const Timer& timer : timers) {
    CHECK(timer.releases == 1);
    CHECK_FALSE(timer.node.queued);
  }
}

TEST_CASE("a release while the heap is cleared may push and cancel") {
  std::deque<Timer> timers = make_timers(3);
  Timer born;
  TimerHeap heap(&Timer::release);
  for (Timer& timer : timers) heap.push(timer.node, timer.id);
  timers[0].on_release = [&] {
    heap.push(born.node, 7);
    heap.cancel(timers[2].node);
  };
  heap.clear();
  for (const Timer& timer : timers) CHECK(timer.releases == 1);
  CHECK(heap.pop_due(7) == &born);
}

TEST_CASE("visiting sees the owner of every entry, dead ones too, until told to stop") {
  std::deque<Timer> timers = make_timers(3);
  TimerHeap heap(&Timer::release);
  for (Timer& timer : timers) heap.push(timer.node, timer.id);
  heap.cancel(timers[1].node);
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

TEST_CASE("a heap without a release function only forgets") {
  std::deque<Timer> timers = make_timers(2);
  TimerHeap heap;
  for (Timer& timer : timers) heap.push(timer.node, timer.id);
  heap.cancel(timers[0].node);
  CHECK(heap.next_deadline() == 1);
  heap.clear();
  CHECK(heap.size() == 0);
  for (const Timer& timer : timers) CHECK_FALSE(timer.node.queued);
}

TEST_CASE("a heap that finds no memory takes nothing") {
  Timer timer;
  TimerHeap heap(&Timer::release);
  REQUIRE_THROWS_AS(with_allocations(0, [&] { heap.push(timer.node, 1); }), std::bad_alloc);
  CHECK_FALSE(timer.node.queued);
  CHECK(heap.size() == 0);
  CHECK(timer.releases == 0);
}

// The heap and a model of it, a multimap: that keeps equal deadlines in the order of insertion, too.
class RandomWalk {
 public:
  // A push in so many of a hundred steps, at most 80, and a look at what is due in 20; else something is cancelled.
  void step(unsigned pushes_percent) {
    const std::uint64_t choice = random_() % 100;
    if (choice < pushes_percent) {
      push();
    } else if (choice < 80) {
      cancel();
    } else {
      pop_due();
    }
  }

  void pop_everything() {
    now_ = TimerHeap::never;
    while (!model_.empty()) pop_due();
    REQUIRE(heap_.pop_due(now_) == nullptr);
    REQUIRE(heap_.size() == 0);
    for (const Timer& timer : timers_) REQUIRE(timer.releases == (timer.node.cancelled && !was_popped(timer) ? 1 : 0));
  }

 private:
  using Model = std::multimap<std::int64_t, Timer*>;

  [[nodiscard]] bool was_popped(const Timer& timer) const { return popped_[static_cast<std::size_t>(timer.id)]; }

  void push() {
    Timer& timer = timers_.emplace_back(static_cast<int>(timers_.size()));
    popped_.push_back(false);
    const std::int64_t deadline = now_ + static_cast<std::int64_t>(random_() % 500);
    heap_.push(timer.node, deadline);
    model_.emplace(deadline, &timer);
  }

  void cancel() {
    if (timers_.empty()) return;
    Timer& timer = timers_[random_() % timers_.size()];
    const bool first_time = !timer.node.cancelled;
    REQUIRE(heap_.cancel(timer.node) == first_time);
    std::erase_if(model_, [&](const auto& entry) { return entry.second == &timer; });
  }

  void pop_due() {
    if (now_ != TimerHeap::never) now_ += static_cast<std::int64_t>(random_() % 40);
    const auto first = model_.begin();
    REQUIRE(heap_.next_deadline() == (model_.empty() ? TimerHeap::never : first->first));
    const bool due = !model_.empty() && first->first <= now_;
    Timer* expected = due ? first->second : nullptr;
    REQUIRE(heap_.pop_due(now_) == expected);
    if (!due) return;
    popped_[static_cast<std::size_t>(expected->id)] = true;
    model_.erase(first);
  }

  std::mt19937 random_{314159};
  std::int64_t now_ = 0;
  std::deque<Timer> timers_;
  std::vector<bool> popped_;
  TimerHeap heap_{&Timer::release};
  Model model_;
};

TEST_CASE("it agrees with a multimap over a random walk") {
  RandomWalk walk;
  for (const unsigned pushes_percent : {75U, 40U, 60U, 30U}) {
    for (int step = 0; step < 2'500; ++step) walk.step(pushes_percent);
  }
  walk.pop_everything();
}

}  // namespace
