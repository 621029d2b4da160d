#include "zloop/ring_buffer.hpp"

#include <array>
#include <deque>
#include <new>
#include <random>

#include "support/allocation.hpp"
#include "support/catch.hpp"

namespace {

using zloop::RingBuffer;
using zloop::test::with_allocations;

TEST_CASE("a new ring is empty and holds no memory") {
  const RingBuffer<int> ring;
  CHECK(ring.empty());
  CHECK(ring.capacity() == 0);
}

TEST_CASE("what goes in first comes out first") {
  RingBuffer<int> ring;
  for (int i = 0; i < 10; ++i) ring.push_back(i);
  CHECK(ring.size() == 10);
  for (int i = 0; i < 10; ++i) CHECK(ring.pop_front() == i);
  CHECK(ring.empty());
}

TEST_CASE("the ring goes round in the memory it has") {
  RingBuffer<int> ring;
  for (int i = 0; i < 40; ++i) ring.push_back(i);
  const std::size_t capacity = ring.capacity();
  for (int i = 40; i < 1000; ++i) {
    REQUIRE(ring.pop_front() == i - 40);
    ring.push_back(i);
  }
  CHECK(ring.capacity() == capacity);
}

TEST_CASE("growing keeps the order, wherever the front is") {
  RingBuffer<int> ring;
  ring.push_back(0);
  const auto capacity = static_cast<int>(ring.capacity());
  const int front = GENERATE_COPY(range(0, capacity));
  for (int i = 1; i < capacity; ++i) ring.push_back(i);
  for (int i = 0; i < front; ++i) REQUIRE(ring.pop_front() == i);
  for (int i = capacity; i <= capacity + front; ++i) ring.push_back(i);  // one more than there is room for
  REQUIRE(static_cast<int>(ring.capacity()) == 2 * capacity);
  for (int i = front; i <= capacity + front; ++i) {
    CHECK(ring[0] == i);
    CHECK(ring.pop_front() == i);
  }
}

TEST_CASE("a caller that drains by count is not disturbed by growth") {
  RingBuffer<int> ring;
  for (int i = 0; i < 50; ++i) ring.push_back(i);
  int next = 50;
  for (std::size_t ready = ring.size(); ready > 0; --ready) {
    CHECK(ring.pop_front() == 50 - static_cast<int>(ready));
    for (int i = 0; i < 10; ++i) ring.push_back(next++);  // what a callback schedules
  }
  REQUIRE(ring.size() == 500);
  for (int i = 50; i < 550; ++i) CHECK(ring.pop_front() == i);
}

TEST_CASE("elements are reached by their place from the front") {
  RingBuffer<int> ring;
  for (int i = 0; i < 60; ++i) ring.push_back(i);
  for (int i = 0; i < 30; ++i) ring.pop_front();
  for (int i = 60; i < 90; ++i) ring.push_back(i);
  for (std::size_t i = 0; i < ring.size(); ++i) CHECK(ring[i] == static_cast<int>(i) + 30);
}

TEST_CASE("swapping exchanges everything") {
  RingBuffer<int> one;
  RingBuffer<int> other;
  for (int i = 0; i < 100; ++i) one.push_back(i);
  one.pop_front();
  one.swap(other);
  CHECK(one.empty());
  CHECK(one.capacity() == 0);
  REQUIRE(other.size() == 99);
  for (int i = 1; i < 100; ++i) CHECK(other.pop_front() == i);
  one.push_back(7);
  CHECK(one.pop_front() == 7);
}

TEST_CASE("a ring that cannot grow stays as it was") {
  RingBuffer<int> ring;
  REQUIRE_THROWS_AS(with_allocations(0, [&] { ring.push_back(0); }), std::bad_alloc);
  CHECK(ring.empty());
  ring.push_back(0);
  const auto capacity = static_cast<int>(ring.capacity());
  for (int i = 1; i < capacity; ++i) ring.push_back(i);
  REQUIRE_THROWS_AS(with_allocations(0, [&] { ring.push_back(capacity); }), std::bad_alloc);
  REQUIRE(ring.size() == ring.capacity());
  ring.push_back(capacity);
  for (int i = 0; i <= capacity; ++i) CHECK(ring.pop_front() == i);
}

TEST_CASE("what room was made for goes in without memory") {
  RingBuffer<int> ring;
  ring.push_back(0);
  ring.make_room(1000);
  REQUIRE(ring.size() == 1);
  with_allocations(0, [&] {
    for (int i = 1; i <= 1000; ++i) ring.push_back(i);
  });
  for (int i = 0; i <= 1000; ++i) REQUIRE(ring.pop_front() == i);
}

TEST_CASE("a ring that cannot make room stays as it was") {
  RingBuffer<int> ring;
  ring.push_back(0);
  REQUIRE_THROWS_AS(with_allocations(0, [&] { ring.make_room(1000); }), std::bad_alloc);
  CHECK(ring.size() == 1);
  CHECK(ring.pop_front() == 0);
}

TEST_CASE("it agrees with a deque over a random walk") {
  std::mt19937 random(20240229);
  RingBuffer<unsigned> ring;
  std::deque<unsigned> model;
  for (unsigned step = 0; step < 50'000; ++step) {
    // Long runs of mostly pushing and of mostly popping, so that it grows, and empties, and goes round.
    const unsigned pushing = (step / 2000) % 2 == 0 ? 6 : 3;
    if (random() % 64 == 0) {
      ring.push_front(step);
      model.push_front(step);
    } else if (model.empty() || random() % 9 < pushing) {
      ring.push_back(step);
      model.push_back(step);
    } else {
      REQUIRE(ring.pop_front() == model.front());
      model.pop_front();
    }
    REQUIRE(ring.size() == model.size());
    REQUIRE(ring.empty() == model.empty());
  }
}

}  // namespace
