#include "zloop/poll_pacer.hpp"

#include <cstdint>

#include "support/catch.hpp"

namespace {

using zloop::PollPacer;

std::int64_t now_ns = 0;  // NOLINT(*-non-const-global-variables): a clock is a plain function

std::int64_t stopped_clock() noexcept { return now_ns; }

// Turns that would not block, beside a watcher or not, in which no event is found.
struct Turns {
  explicit Turns(bool watching_something) : watching(watching_something) {}

  bool skips() {
    const bool skipped = pacer.skips(watching);
    if (!skipped) pacer.looked(false);
    return skipped;
  }

  // How many of the turns up to the next that does otherwise look, or skip.
  int looks() {
    int count = 0;
    while (!pacer.skips(watching)) {
      pacer.looked(false);
      REQUIRE(++count < 10'000);
    }
    return count;  // the turn that skipped is counted by skipped()
  }
  int skipped() {
    int count = 1;
    while (pacer.skips(watching)) REQUIRE(++count < 10'000);
    pacer.looked(false);
    return count;
  }

  bool watching;
  PollPacer pacer{stopped_clock};
};

TEST_CASE("without a watcher, the poller is asked after a number of turns") {
  Turns turns(false);
  for (int i = 0; i < 3; ++i) {
    CHECK(turns.looks() == 0);
    CHECK(turns.skipped() == PollPacer::most_skipped);
  }
}

TEST_CASE("with a watcher, looks are left out when many have been in vain") {
  Turns turns(true);
  CHECK(turns.looks() == PollPacer::looks_in_vain);
  for (int i = 0; i < 3; ++i) {
    CHECK(turns.skipped() == PollPacer::most_skipped);
    CHECK(turns.looks() == 0);
  }
}

TEST_CASE("what is watched first is looked for at once") {
  Turns turns(false);
  CHECK(turns.skips());
  turns.watching = true;
  CHECK_FALSE(turns.skips());
}

TEST_CASE("an event makes every turn look again") {
  Turns turns(true);
  CHECK(turns.looks() == PollPacer::looks_in_vain);
  turns.pacer.looked(true);
  CHECK(turns.looks() == PollPacer::looks_in_vain);
}

TEST_CASE("a restart makes every turn look again") {
  Turns turns(true);
  CHECK(turns.looks() == PollPacer::looks_in_vain);
  turns.pacer.restart();
  CHECK(turns.looks() == PollPacer::looks_in_vain);
}

TEST_CASE("with a watcher, no look is left out for long") {
  Turns turns(true);
  CHECK(turns.looks() == PollPacer::looks_in_vain);
  now_ns += PollPacer::longest_gap_ns - 1;
  CHECK(turns.skips());
  now_ns += 1;
  CHECK_FALSE(turns.skips());
  CHECK(turns.skips());  // the time runs from there
}

}  // namespace
