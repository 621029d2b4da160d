// A queue of bytes to send: segments in order, sent from the front.
//
// The memory of a segment belongs to `reference`. The queue owns one reference, and passes it to the caller's release
// function as soon as the last byte is consumed. Loop thread only.
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
  // Releases one reference. Foreign code, as the functions of WatcherOps are: it may call into the queue, too.
  using ReleaseFn = void (*)(void* reference);

  WriteQueue() = default;
  ~WriteQueue() { assert(empty()); }  // call clear() before
  WriteQueue(const WriteQueue&) = delete;
  WriteQueue& operator=(const WriteQueue&) = delete;

  [[nodiscard]] bool empty() const noexcept { return front_.size == 0; }
  [[nodiscard]] std::size_t bytes() const noexcept { return front_.size + (rest_ == nullptr ? 0 : rest_->bytes); }

  // Appends a non-empty segment and takes over its reference. Throws std::bad_alloc; the reference is still the
  // caller's then. It calls no foreign code, so a caller may catch the exception.
  void push(Segment segment);

  // How many segments one system call takes; a larger number is not faster and costs stack.
  static constexpr int vectors_max = 64;

  // Stores up to `capacity` vectors, from the front, and returns their number.
  int peek(iovec* vectors, int capacity) const noexcept;

  // Drops `count` bytes from the front; count is at most bytes(). The first release comes when they are gone, if they
  // are no more than vectors_max segments: what it calls finds the queue as it will be.
  void consume(std::size_t count, ReleaseFn release);

  // Drops all, and what a release pushes, too.
  void clear(ReleaseFn release);

 private:
  struct Rest {
    RingBuffer<Segment> segments;
    std::size_t bytes = 0;
  };

  [[nodiscard]] void* drop_front() noexcept;

  Segment front_{};             // the unsent part of the first segment; size 0: the queue is empty
  std::unique_ptr<Rest> rest_;  // the others; allocated for the first of them and kept: most queues never need it
};

}  // namespace zloop
