// The loop's clock: the one behind Python's time.monotonic(), in whole nanoseconds. CLOCK_MONOTONIC, but on macOS,
// where it is mach_absolute_time(). One implementation file for each: src/clock/.
#pragma once

#include <cstdint>

namespace zloop {

// Nanoseconds since an unspecified start; never goes backwards. Any thread may call it.
std::int64_t monotonic_ns() noexcept;

}  // namespace zloop
