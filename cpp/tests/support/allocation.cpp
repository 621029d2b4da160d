#include "support/allocation.hpp"

#include <stdlib.h>  // NOLINT(modernize-deprecated-headers): posix_memalign is not in <cstdlib>

#include <cstdlib>
#include <new>

namespace {

constexpr int unlimited = -1;
// NOLINTNEXTLINE(cppcoreguidelines-avoid-non-const-global-variables): operator new is global, too
thread_local int allocations_left = unlimited;

// NOLINTBEGIN(cppcoreguidelines-no-malloc): operator new is implemented here.

bool allowed() noexcept {
  if (allocations_left == 0) return false;
  if (allocations_left > 0) --allocations_left;
  return true;
}

void* allocate(std::size_t size) noexcept { return allowed() ? std::malloc(size == 0 ? 1 : size) : nullptr; }

void* allocate(std::size_t size, std::align_val_t alignment) noexcept {
  void* memory = nullptr;
  return allowed() && ::posix_memalign(&memory, static_cast<std::size_t>(alignment), size) == 0 ? memory : nullptr;
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
void* operator new[](std::size_t size, std::align_val_t alignment, const std::nothrow_t& /*tag*/) noexcept {
  return allocate(size, alignment);
}
void operator delete(void* memory) noexcept { std::free(memory); }
void operator delete[](void* memory) noexcept { std::free(memory); }
void operator delete(void* memory, std::size_t /*size*/) noexcept { std::free(memory); }
void operator delete[](void* memory, std::size_t /*size*/) noexcept { std::free(memory); }
void operator delete(void* memory, const std::nothrow_t& /*tag*/) noexcept { std::free(memory); }
void operator delete[](void* memory, std::align_val_t /*alignment*/) noexcept { std::free(memory); }
void operator delete[](void* memory, const std::nothrow_t& /*tag*/) noexcept { std::free(memory); }
// NOLINTEND(cppcoreguidelines-no-malloc)
