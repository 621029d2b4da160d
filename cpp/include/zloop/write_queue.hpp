// Bytes on their way to the kernel: segments in order, sent from the front.
//
// A segment's memory belongs to `reference`, of which the queue owns one count; it gives it up through the release
// function as soon as the last byte is taken. Loop thread only.
#pragma once

#include <sys/uio.h>

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
  // Gives up one reference. Must not call back into the queue.
  using ReleaseFn = void (*)(void* reference);

  explicit WriteQueue(ReleaseFn release) noexcept : release_(release) {}
  ~WriteQueue() { clear(); }
  WriteQueue(const WriteQueue&) = delete;
  WriteQueue& operator=(const WriteQueue&) = delete;

  [[nodiscard]] bool empty() const noexcept { return bytes_ == 0; }
  [[nodiscard]] std::size_t bytes() const noexcept { return bytes_; }

  // Takes over segment.reference; an empty segment is released at once. Throws std::bad_alloc, having taken nothing.
  void push(Segment segment);

  // Stores up to `capacity` vectors, from the front, and returns how many.
  int peek(iovec* vectors, int capacity) const noexcept;

  // Drops `count` bytes from the front; count is at most bytes().
  void consume(std::size_t count) noexcept;

  void clear() noexcept;

 private:
  void drop_front() noexcept;

  // What is left of the first segment; nothing when bytes_ is 0. Most queues never have another, and so no ring.
  Segment front_{};
  std::unique_ptr<RingBuffer<Segment>> rest_;  // made for the first that has to wait, and kept
  std::size_t bytes_ = 0;
  ReleaseFn release_;
};

}  // namespace zloop
