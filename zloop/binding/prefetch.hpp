// Prefetch of the handles in the loop's ready queue.
#pragma once

#include <cstddef>

#include "zloop/ring_buffer.hpp"

namespace zloop::binding {

// To be called before each pop_front() by code that runs many handles in a row: prefetches the cache lines of the
// handle that is `distance` places behind the first. The offsets cover a whole TimerHandle (core/handles.pxd), 120
// bytes at any alignment; for a smaller handle they are in the same lines, or in the next object's.
inline void prefetch_handle(const ReadyQueue& queue) {
  constexpr std::size_t distance = 4;  // handles
  if (queue.size() <= distance) return;
  const auto* handle = static_cast<const char*>(queue[distance]);
  for (const std::size_t offset : {0, 64, 112}) __builtin_prefetch(handle + offset);
}

}  // namespace zloop::binding
