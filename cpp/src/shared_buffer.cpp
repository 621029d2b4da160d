#include "zloop/shared_buffer.hpp"

#include <algorithm>
#include <cstring>
#include <new>

#include "zloop/sys.hpp"

#ifndef NDEBUG
#ifdef __SANITIZE_ADDRESS__
#define ZLOOP_ADDRESS_SANITIZER
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define ZLOOP_ADDRESS_SANITIZER
#endif
#endif
#ifdef ZLOOP_ADDRESS_SANITIZER
#include <sanitizer/asan_interface.h>
#endif
#endif

namespace zloop {

SharedBuffer::~SharedBuffer() {
  if (spare_ == nullptr) return;
#ifndef NDEBUG
  unpoison(spare_);
#endif
  discard(spare_);
}

// Not zeroed: pages that were never accessed use no memory.
CacheLine* SharedBuffer::make() const noexcept {
  sys::expect_large_blocks();
  return new (std::nothrow) CacheLine[size_ / sizeof(CacheLine)];
}

void SharedBuffer::discard(CacheLine* memory) noexcept { delete[] memory; }

#ifndef NDEBUG

void SharedBuffer::poison(CacheLine* memory) const noexcept {
  // Only the size of a short message: overwriting everything would take longer than the loan itself.
  constexpr std::size_t overwritten_max = std::size_t{16} * 1024;
  constexpr int filler = 0xDD;
  std::memset(memory->bytes.data(), filler, std::min(size_, overwritten_max));
#ifdef ZLOOP_ADDRESS_SANITIZER
  ASAN_POISON_MEMORY_REGION(memory, size_);
#endif
}

void SharedBuffer::unpoison([[maybe_unused]] CacheLine* memory) const noexcept {
#ifdef ZLOOP_ADDRESS_SANITIZER
  ASAN_UNPOISON_MEMORY_REGION(memory, size_);
#endif
}

#endif

}  // namespace zloop
