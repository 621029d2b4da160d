// The loop's clock: that of Python's time.monotonic(), in whole nanoseconds. It is CLOCK_MONOTONIC, except on macOS,
// where it is mach_absolute_time(). src/clock/ has one file for each.
#pragma once

#include <cstdint>

namespace zloop {

// Nanoseconds since an unspecified start; never goes backwards. Any thread may call it.
std::int64_t monotonic_ns() noexcept;

}  // namespace zloop
