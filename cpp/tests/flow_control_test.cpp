// FlowControl: when a writer is paused and resumed.
#include "zloop/flow_control.hpp"

#include <cstddef>
#include <limits>

#include "support/catch.hpp"

using zloop::FlowControl;

TEST_CASE("A writer pauses above the high-water mark, once, and resumes at the low one") {
  FlowControl flow;
  flow.set_limits(100, 10);
  CHECK_FALSE(flow.pauses_at(100));
  CHECK(flow.pauses_at(101));
  CHECK(flow.paused());
  CHECK_FALSE(flow.pauses_at(200));
  CHECK_FALSE(flow.resumes_at(11));
  CHECK(flow.resumes_at(10));
  CHECK_FALSE(flow.paused());
  CHECK_FALSE(flow.resumes_at(0));
  CHECK(flow.pauses_at(101));
}

TEST_CASE("Water marks are asyncio's until they are set") {
  const FlowControl flow;
  CHECK(flow.high_water() == 65536);
  CHECK(flow.low_water() == 16384);
}

TEST_CASE("Marks of zero pause at the first byte and resume at none") {
  FlowControl flow;
  flow.set_limits(0, 0);
  CHECK_FALSE(flow.pauses_at(0));
  CHECK(flow.pauses_at(1));
  CHECK_FALSE(flow.resumes_at(1));
  CHECK(flow.resumes_at(0));
}

TEST_CASE("The largest mark takes all bits of a word but one") {
  CHECK(FlowControl::mark_max == std::size_t{std::numeric_limits<std::ptrdiff_t>::max()});
  FlowControl flow;
  flow.set_limits(FlowControl::mark_max, FlowControl::mark_max - 1);
  CHECK(flow.high_water() == FlowControl::mark_max);
  CHECK(flow.low_water() == FlowControl::mark_max - 1);
}

TEST_CASE("Marks beyond the largest count as the largest, and leave the state alone") {
  FlowControl flow;
  flow.set_limits(1, 0);
  REQUIRE(flow.pauses_at(2));
  flow.set_limits(std::numeric_limits<std::size_t>::max(), std::numeric_limits<std::size_t>::max());
  CHECK(flow.high_water() == FlowControl::mark_max);
  CHECK(flow.low_water() == FlowControl::mark_max);
  CHECK(flow.paused());
  CHECK(flow.resumes_at(FlowControl::mark_max));
  CHECK_FALSE(flow.pauses_at(FlowControl::mark_max));
}

TEST_CASE("The other rule pauses at the mark itself, unless the writer would resume at once") {
  FlowControl flow;
  flow.set_limits(100, 10);
  CHECK_FALSE(flow.pauses_from(99));
  CHECK(flow.pauses_from(100));
  CHECK_FALSE(flow.pauses_from(100));
  flow.set_paused(false);
  flow.set_limits(0, 0);
  CHECK_FALSE(flow.pauses_from(0));
  CHECK(flow.pauses_from(1));
}

TEST_CASE("A buffer may begin paused") {
  FlowControl flow;
  flow.set_paused(true);
  CHECK_FALSE(flow.pauses_at(1 << 20));
  CHECK(flow.resumes_at(0));
}

TEST_CASE("Flow control takes two words") { CHECK(sizeof(FlowControl) == 2 * sizeof(std::size_t)); }
