#include "support/allocation.hpp"

#include <cstdlib>
#include <new>

namespace {

constexpr int unlimited = -1;
// NOLINTNEXTLINE(cppcoreguidelines-avoid-non-const-global-variables): as there is one operator new
thread_local int allocations_left = unlimited;

// NOLINTBEGIN(cppcoreguidelines-no-malloc): this is what everything else stands on.

void* allocate(std::size_t size) noexcept {
  if (allocations_left == 0) return nullptr;
  if (allocations_left > 0) --allocations_left;
  return std::malloc(size == 0 ? 1 : size);
}

void* allocate_or_throw(std::size_t size) {
  if (void* memory = allocate(size)) return memory;
  throw std::bad_alloc();
}

}  // namespace

namespace zloop::test {

FailingAllocations::FailingAllocations(int allowed) noexcept { allocations_left = allowed; }
FailingAllocations::~FailingAllocations() { allocations_left = unlimited; }

}  // namespace zloop::test

void* operator new(std::size_t size) { return allocate_or_throw(size); }
void* operator new[](std::size_t size) { return allocate_or_throw(size); }
void* operator new(std::size_t size, const std::nothrow_t& /*tag*/) noexcept { return allocate(size); }
void* operator new[](std::size_t size, const std::nothrow_t& /*tag*/) noexcept { return allocate(size); }
void operator delete(void* memory) noexcept { std::free(memory); }
void operator delete[](void* memory) noexcept { std::free(memory); }
void operator delete(void* memory, std::size_t /*size*/) noexcept { std::free(memory); }
void operator delete[](void* memory, std::size_t /*size*/) noexcept { std::free(memory); }
void operator delete(void* memory, const std::nothrow_t& /*tag*/) noexcept { std::free(memory); }
void operator delete[](void* memory, const std::nothrow_t& /*tag*/) noexcept { std::free(memory); }
// NOLINTEND(cppcoreguidelines-no-malloc)
