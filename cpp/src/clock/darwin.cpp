// The clock on macOS. Not CLOCK_MONOTONIC: on macOS it continues while the machine sleeps, and is adjusted.
#include "zloop/clock.hpp"

#include <ctime>

namespace zloop {

// mach_absolute_time(), in nanoseconds.
std::int64_t monotonic_ns() noexcept { return static_cast<std::int64_t>(clock_gettime_nsec_np(CLOCK_UPTIME_RAW)); }

}  // namespace zloop
