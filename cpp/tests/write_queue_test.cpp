#include "zloop/write_queue.hpp"

#include <array>
#include <cstddef>
#include <deque>
#include <functional>
#include <new>
#include <string>
#include <string_view>
#include <vector>

#include "support/allocation.hpp"
#include "support/catch.hpp"
#include "support/piece.hpp"

namespace {

using zloop::WriteQueue;
using zloop::test::Piece;
using zloop::test::with_allocations;

struct Queue : WriteQueue {
  Queue() = default;
  ~Queue() { clear(); }
  Queue(const Queue&) = delete;
  Queue& operator=(const Queue&) = delete;

  void consume(std::size_t count) { WriteQueue::consume(count, &Piece::release); }
  void clear() { WriteQueue::clear(&Piece::release); }
};

std::string queued(const WriteQueue& queue) {
  std::array<iovec, 16> vectors{};
  const int count = queue.peek(vectors.data(), static_cast<int>(vectors.size()));
  std::string bytes;
  for (int i = 0; i < count; ++i) {
    const iovec& vector = vectors.at(static_cast<std::size_t>(i));
    REQUIRE(vector.iov_len > 0);
    bytes.append(static_cast<const char*>(vector.iov_base), vector.iov_len);
  }
  return bytes;
}

TEST_CASE("a new queue has no bytes") {
  const Queue queue;
  CHECK(queue.empty());
  CHECK(queue.bytes() == 0);
  CHECK(queued(queue).empty());
}

TEST_CASE("peek gives as many segments as there is room for, from the front, without a copy") {
  std::array<Piece, 3> pieces{Piece{"one"}, Piece{"two"}, Piece{"three"}};
  Queue queue;
  for (Piece& piece : pieces) queue.push(piece.segment());
  std::array<iovec, 2> vectors{};
  REQUIRE(queue.peek(vectors.data(), 2) == 2);
  CHECK(vectors[0].iov_base == pieces[0].bytes.data());
  CHECK(vectors[0].iov_len == 3);
  CHECK(vectors[1].iov_base == pieces[1].bytes.data());
  CHECK(vectors[1].iov_len == 3);
  CHECK(queue.peek(vectors.data(), 1) == 1);
  CHECK(queue.peek(vectors.data(), 0) == 0);
}

TEST_CASE("consuming at every byte, twice, leaves the rest and releases what is gone") {
  const std::string whole = "abcdefghijk";
  for (std::size_t first = 0; first <= whole.size(); ++first) {
    for (std::size_t second = 0; first + second <= whole.size(); ++second) {
      std::array<Piece, 4> pieces{Piece{"abc"}, Piece{"d"}, Piece{"efghi"}, Piece{"jk"}};
      Queue queue;
      for (Piece& piece : pieces) queue.push(piece.segment());
      queue.consume(first);
      REQUIRE(queued(queue) == whole.substr(first));
      queue.consume(second);
      const std::size_t gone = first + second;
      REQUIRE(queued(queue) == whole.substr(gone));
      REQUIRE(queue.bytes() == whole.size() - gone);
      REQUIRE(queue.empty() == (gone == whole.size()));
      std::size_t end = 0;
      for (const Piece& piece : pieces) {
        end += piece.bytes.size();
        REQUIRE(piece.releases == (end <= gone ? 1 : 0));
      }
    }
  }
}

TEST_CASE("more can be pushed behind a segment that is half gone") {
  Piece front{"front"};
  Piece back{"back"};
  Queue queue;
  queue.push(front.segment());
  queue.consume(2);
  queue.push(back.segment());
  CHECK(queued(queue) == "ontback");
  CHECK(queue.bytes() == 7);
}

TEST_CASE("clearing releases each segment once, and the queue can be used again") {
  Piece half{"half"};
  Piece whole{"whole"};
  Queue queue;
  queue.push(half.segment());
  queue.push(whole.segment());
  queue.consume(2);
  queue.clear();
  CHECK(half.releases == 1);
  CHECK(whole.releases == 1);
  CHECK(queue.empty());
  Piece next{"next"};
  queue.push(next.segment());
  CHECK(queued(queue) == "next");
}

TEST_CASE("a queue that goes releases what it holds") {
  Piece piece{"piece"};
  {
    Queue queue;
    queue.push(piece.segment());
    CHECK(piece.releases == 0);
  }
  CHECK(piece.releases == 1);
}

TEST_CASE("one segment needs no memory, and a further one that finds none is not taken") {
  Piece first{"first"};
  Piece second{"second"};
  Queue queue;
  with_allocations(0, [&] { queue.push(first.segment()); });
  for (const int found : {0, 1}) {  // nothing for the ring; nothing for what it holds
    REQUIRE_THROWS_AS(with_allocations(found, [&] { queue.push(second.segment()); }), std::bad_alloc);
    CHECK(queued(queue) == "first");
    CHECK(queue.bytes() == 5);
    CHECK(second.releases == 0);
  }
  queue.consume(5);
  CHECK(queue.empty());
  CHECK(first.releases == 1);
}

TEST_CASE("a segment behind many others comes when they are gone") {
  std::deque<Piece> pieces;
  Queue queue;
  for (int number = 0; number < 100; ++number) {
    pieces.emplace_back(std::to_string(number) + " ");
    queue.push(pieces.back().segment());
    if (number % 3 == 2) queue.consume(2);
  }
  while (queue.bytes() > 3) queue.consume(1);
  CHECK(queued(queue) == "99 ");
  CHECK(pieces[98].releases == 1);
  CHECK(pieces[99].releases == 0);
}

// What a segment keeps alive: its release runs code.
struct Owner {
  static void release(void* reference) {
    auto& owner = *static_cast<Owner*>(reference);
    ++owner.released;
    if (owner.react) owner.react();
  }

  [[nodiscard]] zloop::Segment segment() { return {.data = "abcd", .size = 4, .reference = this}; }

  int released = 0;
  std::function<void()> react;
};

TEST_CASE("what a release calls finds the queue as it will be, and may change it") {
  std::array<Owner, 4> owners;
  WriteQueue queue;
  for (std::size_t i = 0; i < 3; ++i) queue.push(owners.at(i).segment());
  std::string left;
  SECTION("by clearing it") {
    owners[0].react = [&] {
      left = queued(queue);
      queue.clear(&Owner::release);
    };
    queue.consume(9, &Owner::release);
    CHECK(queue.empty());
    CHECK(owners[2].released == 1);
  }
  SECTION("by more bytes") {
    owners[1].react = [&] {
      left = queued(queue);
      queue.push(owners[3].segment());
    };
    queue.consume(9, &Owner::release);
    CHECK(queued(queue) == "bcdabcd");
    CHECK(owners[2].released == 0);
    queue.clear(&Owner::release);
  }
  SECTION("by taking what is left") {
    owners[0].react = [&] {
      left = queued(queue);
      queue.consume(3, &Owner::release);
    };
    queue.consume(9, &Owner::release);
    CHECK(queue.empty());
    CHECK(owners[2].released == 1);
  }
  CHECK(left == "bcd");
  CHECK(owners[0].released == 1);
  CHECK(owners[1].released == 1);
  CHECK(owners[3].released == (owners[1].react ? 1 : 0));
}

TEST_CASE("a queue that is being cleared drops what a release pushes, and may be cleared by it") {
  std::array<Owner, 4> owners;
  WriteQueue queue;
  for (std::size_t i = 0; i < 3; ++i) queue.push(owners.at(i).segment());
  owners[0].react = [&] {
    CHECK(queue.bytes() == 8);
    queue.push(owners[3].segment());
  };
  owners[1].react = [&] { queue.clear(&Owner::release); };
  queue.clear(&Owner::release);
  CHECK(queue.empty());
  for (const Owner& owner : owners) CHECK(owner.released == 1);
}

TEST_CASE("more segments than one call sends are consumed in order") {
  constexpr std::size_t count = (2 * WriteQueue::vectors_max) + 1;
  std::vector<Owner> owners(count);
  WriteQueue queue;
  std::size_t released = 0;
  for (std::size_t i = 0; i < count; ++i) {
    queue.push(owners[i].segment());
    owners[i].react = [&, i] { CHECK(released++ == i); };
  }
  constexpr std::size_t first = WriteQueue::vectors_max + 1;
  queue.consume(4 * first, &Owner::release);
  CHECK(released == first);
  CHECK(queue.bytes() == 4 * (count - first));
  queue.consume(4 * (count - first), &Owner::release);
  CHECK(released == count);
  CHECK(queue.empty());
}

}  // namespace
