#include "zloop/write_queue.hpp"

#include <algorithm>
#include <cassert>

namespace zloop {

void WriteQueue::push(Segment segment) {
  if (segment.size == 0) {
    release_(segment.reference);
    return;
  }
  segments_.push_back(segment);
  bytes_ += segment.size;
}

int WriteQueue::peek(iovec* vectors, int capacity) const noexcept {
  const int count = static_cast<int>(std::min(static_cast<std::size_t>(capacity), segments_.size()));
  std::size_t offset = front_offset_;
  for (int i = 0; i < count; ++i) {
    const Segment& segment = segments_[static_cast<std::size_t>(i)];
    vectors[i].iov_base = const_cast<char*>(segment.data + offset);  // iovec serves readers too; nobody writes here
    vectors[i].iov_len = segment.size - offset;
    offset = 0;
  }
  return count;
}

void WriteQueue::consume(std::size_t count) noexcept {
  assert(count <= bytes_);
  bytes_ -= count;
  count += front_offset_;
  while (!segments_.empty() && count >= segments_[0].size) {
    const Segment segment = segments_.pop_front();
    count -= segment.size;
    release_(segment.reference);
  }
  front_offset_ = count;
}

void WriteQueue::clear() noexcept {
  bytes_ = 0;
  front_offset_ = 0;
  while (!segments_.empty()) release_(segments_.pop_front().reference);
}

}  // namespace zloop
