// The clock on Linux and the BSDs.
#include "zloop/clock.hpp"

#include <ctime>

namespace zloop {

std::int64_t monotonic_ns() noexcept {
  timespec now{};
  clock_gettime(CLOCK_MONOTONIC, &now);  // cannot fail: the clock is mandatory, and the address is valid
  return (std::int64_t{now.tv_sec} * 1'000'000'000) + now.tv_nsec;
}

}  // namespace zloop
