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
    if (!skipped) pacer.looked(0);
    return skipped;
  }

  // How many of the turns up to the next that does otherwise look, or skip.
  int looks() {
    int count = 0;
    while (!pacer.skips(watching)) {
      pacer.looked(0);
      REQUIRE(++count < 10'000);
    }
    return count;  // the turn that skipped is counted by skipped()
  }
  int skipped() {
    int count = 1;
    while (pacer.skips(watching)) REQUIRE(++count < 10'000);
    pacer.looked(0);
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
  turns.pacer.looked(1);
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

TEST_CASE("one turn after a look that has found many events goes without one") {
  Turns turns(true);
  turns.pacer.looked(PollPacer::many);
  CHECK(turns.skips());
  CHECK_FALSE(turns.skips());
  turns.pacer.waited(PollPacer::many + 1);
  CHECK(turns.skips());
  CHECK_FALSE(turns.skips());
}

TEST_CASE("no turn goes without a look after one that has found few events") {
  Turns turns(true);
  turns.pacer.looked(PollPacer::many - 1);
  CHECK_FALSE(turns.skips());
  turns.pacer.waited(PollPacer::many - 1);
  CHECK_FALSE(turns.skips());
  turns.pacer.waited(-1);
  CHECK_FALSE(turns.skips());
}

TEST_CASE("many events do not put off the next look for long") {
  Turns turns(true);
  turns.pacer.looked(PollPacer::many);
  now_ns += PollPacer::busy_gap_ns;
  CHECK_FALSE(turns.skips());
  turns.pacer.looked(PollPacer::many);
  now_ns += PollPacer::busy_gap_ns - 1;
  CHECK(turns.skips());
}

TEST_CASE("what is watched anew is looked for at once, also after many events") {
  Turns turns(true);
  turns.pacer.looked(PollPacer::many);
  turns.pacer.restart();
  CHECK_FALSE(turns.skips());
}

TEST_CASE("a turn that has waited ends the looks in vain") {
  Turns turns(true);
  CHECK(turns.looks() == PollPacer::looks_in_vain);
  turns.pacer.waited(0);
  CHECK(turns.looks() == PollPacer::looks_in_vain);
}

}  // namespace
