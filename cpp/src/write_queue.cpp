#include "zloop/write_queue.hpp"

#include <algorithm>
#include <array>
#include <cassert>

namespace zloop {

namespace {

iovec vector_of(const Segment& segment) noexcept {
  // The const_cast is safe: iovec is also used for reading, but sending does not write through it.
  return {.iov_base = const_cast<char*>(segment.data), .iov_len = segment.size};
}

}  // namespace

void WriteQueue::push(Segment segment) {
  assert(segment.size > 0);
  if (empty()) {
    front_ = segment;
  } else {
    if (rest_ == nullptr) rest_ = std::make_unique<Rest>();
    rest_->segments.push_back(segment);
    rest_->bytes += segment.size;
  }
}

int WriteQueue::peek(iovec* vectors, int capacity) const noexcept {
  if (empty() || capacity <= 0) return 0;
  vectors[0] = vector_of(front_);
  if (rest_ == nullptr) return 1;
  const int others = static_cast<int>(std::min(static_cast<std::size_t>(capacity - 1), rest_->segments.size()));
  for (int i = 0; i < others; ++i) vectors[i + 1] = vector_of(rest_->segments[static_cast<std::size_t>(i)]);
  return 1 + others;
}

void WriteQueue::consume(std::size_t count, ReleaseFn release) {
  assert(count <= bytes());
  while (count > 0) {
    std::array<void*, vectors_max> gone;  // NOLINT(*-member-init): only what is filled is read
    std::size_t filled = 0;
    while (count > 0 && count >= front_.size && filled < gone.size()) {
      count -= front_.size;
      gone[filled++] = drop_front();
    }
    if (count < front_.size) {
      front_.data += count;
      front_.size -= count;
      count = 0;
    }
    for (std::size_t i = 0; i < filled; ++i) release(gone[i]);
  }
}

void WriteQueue::clear(ReleaseFn release) {
  while (!empty()) release(drop_front());
}

// Returns the first segment's reference, which is the caller's then.
void* WriteQueue::drop_front() noexcept {
  void* reference = front_.reference;
  if (rest_ != nullptr && !rest_->segments.empty()) {
    front_ = rest_->segments.pop_front();
    rest_->bytes -= front_.size;
  } else {
    front_.size = 0;
  }
  return reference;
}

}  // namespace zloop
