// A growable first-in-first-out ring buffer, used as the loop's ready queue.
//
// Owns its storage, not the objects that T points to. It may grow while a caller removes a counted number of elements,
// because positions are indices, not pointers. Loop thread only.
#pragma once

#include <cstddef>
#include <memory>
#include <type_traits>
#include <utility>

namespace zloop {

template <typename T>
class RingBuffer {
  static_assert(std::is_trivially_copyable_v<T>, "elements are moved by plain assignment");

 public:
  RingBuffer() = default;
  ~RingBuffer() = default;
  RingBuffer(const RingBuffer&) = delete;
  RingBuffer& operator=(const RingBuffer&) = delete;

  [[nodiscard]] std::size_t size() const noexcept { return tail_ - head_; }
  [[nodiscard]] bool empty() const noexcept { return tail_ == head_; }
  [[nodiscard]] std::size_t capacity() const noexcept { return capacity_; }

  // The i-th element from the front; i must be below size().
  [[nodiscard]] const T& operator[](std::size_t i) const noexcept { return slots_[(head_ + i) & (capacity_ - 1)]; }

  // Throws std::bad_alloc when it must grow and cannot; the ring is unchanged then.
  void push_back(T value) {
    if (size() == capacity_) grow();
    slots_[tail_ & (capacity_ - 1)] = value;
    ++tail_;
  }

  // Inserts in front of all elements. Throws as push_back() does.
  void push_front(T value) {
    if (size() == capacity_) grow();
    --head_;
    slots_[head_ & (capacity_ - 1)] = value;
  }

  // Makes room for `count` further elements, whose push does not throw. Throws std::bad_alloc as push_back() does.
  void make_room(std::size_t count) {
    while (capacity_ - size() < count) grow();
  }

  // Both require that the ring is not empty.
  [[nodiscard]] const T& front() const noexcept { return (*this)[0]; }
  T pop_front() noexcept {
    T value = slots_[head_ & (capacity_ - 1)];
    ++head_;
    return value;
  }

  void swap(RingBuffer& other) noexcept {
    std::swap(slots_, other.slots_);
    std::swap(capacity_, other.capacity_);
    std::swap(head_, other.head_);
    std::swap(tail_, other.tail_);
  }

 private:
  static constexpr std::size_t initial_capacity = 64;

  void grow() {
    const std::size_t count = size();
    const std::size_t bigger = capacity_ == 0 ? initial_capacity : capacity_ * 2;
    auto slots = std::make_unique<T[]>(bigger);
    for (std::size_t i = 0; i < count; ++i) slots[i] = (*this)[i];
    slots_ = std::move(slots);
    capacity_ = bigger;
    head_ = 0;
    tail_ = count;
  }

  std::unique_ptr<T[]> slots_;
  std::size_t capacity_ = 0;  // zero or a power of two, so that a mask replaces the modulo
  std::size_t head_ = 0;      // counters, masked for an index; unsigned wrap-around keeps tail_ - head_ correct
  std::size_t tail_ = 0;
};

// The handles that the loop runs next, in order. Each slot owns one reference: callers take it before the push and
// release it after the pop.
using ReadyQueue = RingBuffer<void*>;

}  // namespace zloop
