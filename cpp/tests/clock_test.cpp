#include "zloop/clock.hpp"

#include <ctime>

#include "support/catch.hpp"
#include "support/platform.hpp"

namespace {

std::int64_t system_ns() {
  timespec now{};
  REQUIRE(::clock_gettime(zloop::test::monotonic_clock, &now) == 0);
  return (std::int64_t{now.tv_sec} * 1'000'000'000) + now.tv_nsec;
}

TEST_CASE("the clock is time.monotonic()'s, in nanoseconds, and never goes backwards") {
  for (int i = 0; i < 1000; ++i) {
    const std::int64_t before = system_ns();
    const std::int64_t now = zloop::monotonic_ns();
    const std::int64_t after = system_ns();
    REQUIRE(before <= now);
    REQUIRE(now <= after);
  }
}

}  // namespace
