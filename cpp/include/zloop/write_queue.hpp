// Bytes on their way to the kernel: segments in order, sent from the front.
//
// A segment's memory belongs to `reference`, of which the queue owns one count; it gives it up through the caller's
// release function as soon as the last byte is taken. Loop thread only.
#pragma once

#include <sys/uio.h>

#include <cassert>
#include <cstddef>
#include <memory>

#include "zloop/ring_buffer.hpp"

namespace zloop {

struct Segment {
  const char* data;
  std::size_t size;
  void* reference;  // keeps data alive
};

class WriteQueue {
 public:
  // Gives up one reference. Must not call back into the queue. Foreign code, as WatcherOps' functions are.
  using ReleaseFn = void (*)(void* reference);

  WriteQueue() = default;
  ~WriteQueue() { assert(empty()); }  // clear() it before
  WriteQueue(const WriteQueue&) = delete;
  WriteQueue& operator=(const WriteQueue&) = delete;

  [[nodiscard]] bool empty() const noexcept { return front_.size == 0; }
  [[nodiscard]] std::size_t bytes() const noexcept { return front_.size + (rest_ == nullptr ? 0 : rest_->bytes); }

  // Takes over segment.reference; the segment is not empty. Throws std::bad_alloc, having taken nothing. It calls no
  // foreign code, so whoever calls it may catch that.
  void push(Segment segment);

  // Stores up to `capacity` vectors, from the front, and returns how many.
  int peek(iovec* vectors, int capacity) const noexcept;

  // Drops `count` bytes from the front; count is at most bytes().
  void consume(std::size_t count, ReleaseFn release);

  void clear(ReleaseFn release);

 private:
  struct Rest {
    RingBuffer<Segment> segments;
    std::size_t bytes = 0;
  };

  void drop_front(ReleaseFn release);

  Segment front_{};             // what is left of the first one; of size 0, there is none
  std::unique_ptr<Rest> rest_;  // made for the first that has to wait, and kept: most queues never have one
};

}  // namespace zloop
