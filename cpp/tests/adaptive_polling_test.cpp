#include "zloop/adaptive_polling.hpp"

#include <cstdint>

#include "support/catch.hpp"

namespace {

using zloop::AdaptivePolling;

std::int64_t now_ns = 0;  // NOLINT(*-non-const-global-variables): a clock is a plain function

std::int64_t stopped_clock() noexcept { return now_ns; }

// Turns that would not block, beside a watcher or not, in which no event is found.
struct Turns {
  explicit Turns(bool watching_something) : watching(watching_something) {}

  bool skips() {
    const bool skipped = polling.skips(watching);
    if (!skipped) polling.polled(0);
    return skipped;
  }

  // How many turns poll before the next that skips; how many skip before the next that polls.
  int polls() {
    int count = 0;
    while (!polling.skips(watching)) {
      polling.polled(0);
      REQUIRE(++count < 10'000);
    }
    return count;  // skipped() counts the turn that has skipped
  }
  int skipped() {
    int count = 1;
    while (polling.skips(watching)) REQUIRE(++count < 10'000);
    polling.polled(0);
    return count;
  }

  bool watching;
  AdaptivePolling polling{stopped_clock};
};

TEST_CASE("without a watcher, one turn in so many polls") {
  Turns turns(false);
  for (int i = 0; i < 3; ++i) {
    CHECK(turns.polls() == 0);
    CHECK(turns.skipped() == AdaptivePolling::max_skipped_polls);
  }
}

TEST_CASE("with a watcher, turns skip the poll after many empty ones") {
  Turns turns(true);
  CHECK(turns.polls() == AdaptivePolling::empty_polls_to_skip);
  for (int i = 0; i < 3; ++i) {
    CHECK(turns.skipped() == AdaptivePolling::max_skipped_polls);
    CHECK(turns.polls() == 0);
  }
}

TEST_CASE("the first watcher is polled for at once") {
  Turns turns(false);
  CHECK(turns.skips());
  turns.watching = true;
  CHECK_FALSE(turns.skips());
}

TEST_CASE("an event makes every turn poll again") {
  Turns turns(true);
  CHECK(turns.polls() == AdaptivePolling::empty_polls_to_skip);
  turns.polling.polled(1);
  CHECK(turns.polls() == AdaptivePolling::empty_polls_to_skip);
}

TEST_CASE("a reset makes every turn poll again") {
  Turns turns(true);
  CHECK(turns.polls() == AdaptivePolling::empty_polls_to_skip);
  turns.polling.reset();
  CHECK(turns.polls() == AdaptivePolling::empty_polls_to_skip);
}

TEST_CASE("with a watcher, the gap between two polls is limited") {
  Turns turns(true);
  CHECK(turns.polls() == AdaptivePolling::empty_polls_to_skip);
  now_ns += AdaptivePolling::max_poll_gap_ns - 1;
  CHECK(turns.skips());
  now_ns += 1;
  CHECK_FALSE(turns.skips());
  CHECK(turns.skips());  // the time runs from there
}

TEST_CASE("one turn after a busy batch skips its poll") {
  Turns turns(true);
  turns.polling.polled(AdaptivePolling::busy_batch_min);
  CHECK(turns.skips());
  CHECK_FALSE(turns.skips());
  turns.polling.blocked(AdaptivePolling::busy_batch_min + 1);
  CHECK(turns.skips());
  CHECK_FALSE(turns.skips());
}

TEST_CASE("a batch below the minimum, or an interrupted poll, is not busy") {
  Turns turns(true);
  turns.polling.polled(AdaptivePolling::busy_batch_min - 1);
  CHECK_FALSE(turns.skips());
  turns.polling.blocked(AdaptivePolling::busy_batch_min - 1);
  CHECK_FALSE(turns.skips());
  turns.polling.blocked(-1);
  CHECK_FALSE(turns.skips());
}

TEST_CASE("the gap after a busy batch is limited") {
  Turns turns(true);
  turns.polling.polled(AdaptivePolling::busy_batch_min);
  now_ns += AdaptivePolling::max_busy_gap_ns;
  CHECK_FALSE(turns.skips());
  turns.polling.polled(AdaptivePolling::busy_batch_min);
  now_ns += AdaptivePolling::max_busy_gap_ns - 1;
  CHECK(turns.skips());
}

TEST_CASE("a reset ends a busy batch") {
  Turns turns(true);
  turns.polling.polled(AdaptivePolling::busy_batch_min);
  turns.polling.reset();
  CHECK_FALSE(turns.skips());
}

TEST_CASE("a turn that has blocked ends the row of empty polls") {
  Turns turns(true);
  CHECK(turns.polls() == AdaptivePolling::empty_polls_to_skip);
  turns.polling.blocked(0);
  CHECK(turns.polls() == AdaptivePolling::empty_polls_to_skip);
}

TEST_CASE("disabled, no turn skips its poll") {
  for (const bool watching : {false, true}) {
    Turns turns(watching);
    turns.polling.disable();
    for (int i = 0; i < 3 * AdaptivePolling::empty_polls_to_skip; ++i) CHECK_FALSE(turns.skips());
    turns.polling.polled(AdaptivePolling::busy_batch_min);
    CHECK_FALSE(turns.skips());
  }
}

}  // namespace
