// The loop's clock: CLOCK_MONOTONIC in whole nanoseconds, the clock behind Python's time.monotonic().
#pragma once

#include <cstdint>

namespace zloop {

// Nanoseconds since an unspecified start; never goes backwards. Any thread may call it.
std::int64_t monotonic_ns() noexcept;

}  // namespace zloop
