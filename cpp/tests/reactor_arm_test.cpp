// One-shot interest: Reactor::arm() and disarm().
#include <unistd.h>

#include <cerrno>
#include <cstddef>
#include <deque>
#include <vector>

#include "support/catch.hpp"
#include "support/interposer.hpp"
#include "support/open_reactor.hpp"
#include "support/probe.hpp"
#include "support/sockets.hpp"

namespace {

using zloop::interest_none;
using zloop::interest_read;
using zloop::interest_write;
using zloop::test::Fd;
using zloop::test::Interposer;
using zloop::test::make_pair;
using zloop::test::OpenReactor;
using zloop::test::Pair;
using zloop::test::Probe;
using zloop::test::put;
using zloop::test::take;

constexpr unsigned interest_both = interest_read | interest_write;

using Bits = std::vector<unsigned>;

TEST_CASE("an armed watcher is notified once") {
  OpenReactor reactor;
  const Pair pair = make_pair();
  put(pair.theirs.get(), "x");
  Probe probe;
  REQUIRE(probe.attach(reactor, pair.ours.get()) == 0);
  for (std::size_t times = 1; times <= 3; ++times) {
    REQUIRE(reactor.arm(probe.watcher, interest_read) == 0);
    CHECK(reactor.watched() == 1);
    reactor.turn();
    CHECK(reactor.turn() == 0);
    CHECK(probe.notified == Bits(times, interest_read));
    CHECK(probe.watcher.interest() == interest_none);
    CHECK(reactor.watched() == 0);
  }
}

TEST_CASE("waiting again and again for what comes takes one call each time") {
  OpenReactor reactor;
  const Pair pair = make_pair();
  Probe probe;
  REQUIRE(probe.attach(reactor, pair.ours.get()) == 0);
  REQUIRE(reactor.arm(probe.watcher, interest_write) == 0);
  reactor.turn();
  const Interposer kernel;
  for (int i = 0; i < 3; ++i) {
    REQUIRE(reactor.arm(probe.watcher, interest_write) == 0);
    REQUIRE(reactor.arm(probe.watcher, interest_write) == 0);  // it is armed
    reactor.turn();
  }
  CHECK(kernel.poller_control.count == 3);
  CHECK(probe.notified == Bits(4, interest_write));
}

TEST_CASE("what an event did not report stays armed") {
  OpenReactor reactor;
  Pair pair = make_pair();
  Probe probe;
  REQUIRE(probe.attach(reactor, pair.ours.get()) == 0);
  REQUIRE(reactor.arm(probe.watcher, interest_both) == 0);
  reactor.turn();
  reactor.turn();
  CHECK(probe.notified == Bits{interest_write});
  put(pair.theirs.get(), "x");
  reactor.turn();
  reactor.turn();
  CHECK(probe.notified == Bits{interest_write, interest_read});
}

TEST_CASE("armed anew in the same batch, a watcher is notified by the next one") {
  OpenReactor reactor;
  const Pair pair = make_pair();
  put(pair.theirs.get(), "x");
  Probe probe;
  REQUIRE(probe.attach(reactor, pair.ours.get()) == 0);
  REQUIRE(reactor.arm(probe.watcher, interest_read) == 0);
  REQUIRE(reactor.wait(0) == 1);
  SECTION("for more") {
    REQUIRE(reactor.arm(probe.watcher, interest_both) == 0);
    reactor.dispatch();
    CHECK(probe.notified.empty());
    reactor.turn();
    CHECK(probe.notified == Bits{interest_read, interest_write});
  }
  SECTION("after it was disarmed") {
    reactor.disarm(probe.watcher);
    REQUIRE(reactor.arm(probe.watcher, interest_read) == 0);
    reactor.dispatch();
    CHECK(probe.notified.empty());
    reactor.turn();
    CHECK(probe.notified == Bits{interest_read});
  }
}

// Writes until the kernel takes no more.
void fill(int fd) {
  const std::vector<char> bytes(std::size_t{1} << 16);
  while (::write(fd, bytes.data(), bytes.size()) > 0) continue;
}

TEST_CASE("an event that waits for its dispatch is not armed for again meanwhile") {
  OpenReactor reactor;
  const Pair pair = make_pair();
  fill(pair.ours.get());
  Probe probe;
  REQUIRE(probe.attach(reactor, pair.ours.get()) == 0);
  bool stays_armed = false;
  SECTION("when another bit is dropped") {
    REQUIRE(reactor.arm(probe.watcher, interest_both) == 0);
    put(pair.theirs.get(), "x");
    REQUIRE(reactor.wait(0) == 1);
    reactor.drop_interest(probe.watcher, interest_write);
  }
  SECTION("when the watcher was interested until further notice") {
    REQUIRE(probe.watcher.set_interest(interest_read) == 0);
    put(pair.theirs.get(), "x");
    REQUIRE(reactor.wait(0) == 1);
    REQUIRE(reactor.arm(probe.watcher, interest_read) == 0);
  }
  SECTION("when the poller is asked for the file") {
    REQUIRE(reactor.arm(probe.watcher, interest_both) == 0);
    put(pair.theirs.get(), "x");
    REQUIRE(reactor.wait(0) == 1);
    CHECK_FALSE(reactor.is_lost(probe.watcher));
    stays_armed = true;
  }
  reactor.dispatch();
  CHECK(probe.notified == Bits{interest_read});
  CHECK(reactor.turn() == 0);  // although there is more to read
  if (stays_armed) {
    CHECK(take(pair.theirs.get()).size() > 1);
    CHECK(reactor.turn() == 1);
    CHECK(probe.notified == Bits{interest_read, interest_write});
  }
}

TEST_CASE("the second bit of an event is not armed for again while the first one is handled") {
  OpenReactor reactor;
  const Pair pair = make_pair();
  put(pair.theirs.get(), "x");
  Probe probe;
  REQUIRE(probe.attach(reactor, pair.ours.get()) == 0);
  REQUIRE(reactor.arm(probe.watcher, interest_both) == 0);
  probe.react = [&] {
    if (probe.notified.size() == 1) CHECK_FALSE(reactor.is_lost(probe.watcher));
  };
  CHECK(reactor.turn() == 1);
  CHECK(probe.notified == Bits{interest_read, interest_write});
  CHECK(reactor.turn() == 0);
}

TEST_CASE("an event that was dispatched leaves its watcher armed for the rest, whatever happens in the same batch") {
  OpenReactor reactor;
  std::deque<Pair> pairs;
  std::deque<Probe> probes(2);
  int notified = 0;
  for (Probe& probe : probes) {
    Pair& pair = pairs.emplace_back(make_pair());
    fill(pair.ours.get());
    put(pair.theirs.get(), "x");
    REQUIRE(probe.attach(reactor, pair.ours.get()) == 0);
    REQUIRE(reactor.arm(probe.watcher, interest_both) == 0);
    probe.react = [&] {
      if (++notified != 2) return;
      for (Probe& each : probes) CHECK_FALSE(reactor.is_lost(each.watcher));
    };
  }
  REQUIRE(reactor.turn() == 2);
  for (const Pair& pair : pairs) CHECK(take(pair.theirs.get()).size() > 1);
  CHECK(reactor.turn() == 2);
  for (const Probe& probe : probes) CHECK(probe.notified == Bits{interest_read, interest_write});
}

TEST_CASE("a turn inside of a notification reports the bits that its event did not") {
  OpenReactor reactor;
  const Pair pair = make_pair();
  fill(pair.ours.get());
  put(pair.theirs.get(), "x");
  Probe probe;
  REQUIRE(probe.attach(reactor, pair.ours.get()) == 0);
  REQUIRE(reactor.arm(probe.watcher, interest_both) == 0);
  probe.react = [&] {
    if (probe.notified.size() > 1) return;
    CHECK(take(pair.theirs.get()).size() > 1);
    CHECK(reactor.turn() == 1);
  };
  CHECK(reactor.turn() == 1);
  CHECK(probe.notified == Bits{interest_read, interest_write});
  CHECK(probe.watcher.interest() == interest_none);
  CHECK(reactor.turn() == 0);
}

TEST_CASE("to disarm what has no interest, or is not attached, asks the kernel nothing") {
  OpenReactor reactor;
  const Pair pair = make_pair();
  Probe probe;
  const Interposer kernel;
  reactor.disarm(probe.watcher);
  reactor.drop_interest(probe.watcher, interest_both);
  REQUIRE(probe.attach(reactor, pair.ours.get()) == 0);
  reactor.disarm(probe.watcher);
  CHECK(kernel.poller_control.count == 0);
  REQUIRE(probe.watcher.set_interest(interest_read) == 0);
  reactor.disarm(probe.watcher);
  CHECK(kernel.poller_control.count == 2);
  reactor.disarm(probe.watcher);
  CHECK(kernel.poller_control.count == 2);
  CHECK(reactor.watched() == 0);
}

TEST_CASE("an interrupted dispatch loses nothing that was armed") {
  OpenReactor reactor;
  std::deque<Pair> pairs;
  std::deque<Probe> probes(3);
  int notified = 0;
  for (Probe& probe : probes) {
    pairs.push_back(make_pair());
    put(pairs.back().theirs.get(), "x");
    probe.react = [&] {
      ++notified;
      reactor.interrupt_dispatch();
    };
    REQUIRE(probe.attach(reactor, pairs.back().ours.get()) == 0);
    REQUIRE(reactor.arm(probe.watcher, interest_both) == 0);
  }
  REQUIRE(reactor.wait(0) == 3);  // and no dispatch: an exception may end a turn before it
  for (int turns = 1; turns <= 6; ++turns) {
    reactor.turn();
    CHECK(notified == turns);
  }
  CHECK(reactor.turn() == 0);
  for (const Probe& probe : probes) CHECK(probe.notified == Bits{interest_read, interest_write});
}

TEST_CASE("arming a number that stands for another file by now watches that") {
  OpenReactor reactor;
  const Pair before = make_pair();
  const Pair after = make_pair();
  put(before.theirs.get(), "x");
  Probe probe;
  const int fd = before.ours.get();
  REQUIRE(probe.attach(reactor, fd) == 0);
  REQUIRE(reactor.arm(probe.watcher, interest_read) == 0);
  reactor.turn();
  const Fd duplicate(::dup(fd));  // keeps the first file, and the poller's entry for it
  REQUIRE(::dup2(after.ours.get(), fd) == fd);
  SECTION("as the poller finds out") { CHECK(reactor.turn() == 0); }
  SECTION("as its owner tells") {
    probe.watcher.renew();
    const Interposer kernel;
    REQUIRE(reactor.arm(probe.watcher, interest_read) == 0);
    CHECK(kernel.poller_control.count == 1);
  }
  REQUIRE(reactor.arm(probe.watcher, interest_read) == 0);
  put(before.theirs.get(), "x");
  reactor.turn();
  CHECK(probe.notified == Bits{interest_read});
  put(after.theirs.get(), "x");
  reactor.turn();
  CHECK(probe.notified == Bits{interest_read, interest_read});
}

TEST_CASE("arming that fails leaves what was armed") {
  OpenReactor reactor;
  const Pair pair = make_pair();
  Probe probe;
  REQUIRE(probe.attach(reactor, pair.ours.get()) == 0);
  REQUIRE(reactor.arm(probe.watcher, interest_write) == 0);
  {
    Interposer kernel;
    kernel.poller_control.errors = {ENOMEM};
    CHECK(reactor.arm(probe.watcher, interest_both) == -ENOMEM);
  }
  reactor.turn();
  CHECK(probe.notified == Bits{interest_write});
  probe.watcher.detach();
  CHECK(reactor.arm(probe.watcher, interest_read) == -EBADF);
}

TEST_CASE("interest that fails leaves what was armed") {
  OpenReactor reactor;
  const Pair pair = make_pair();
  Probe probe;
  REQUIRE(probe.attach(reactor, pair.ours.get()) == 0);
  REQUIRE(reactor.arm(probe.watcher, interest_write) == 0);
  const unsigned armed = probe.watcher.interest();
  {
    Interposer kernel;
    kernel.poller_control.errors = {ENOMEM};
    CHECK(probe.watcher.set_interest(interest_write) == -ENOMEM);
    CHECK(kernel.poller_control.count == 1);
  }
  CHECK(probe.watcher.interest() == armed);
  reactor.turn();
  CHECK(reactor.turn() == 0);
  CHECK(probe.notified == Bits{interest_write});
}

TEST_CASE("an armed watcher that becomes interested in nothing is silent, also when its peer hangs up") {
  OpenReactor reactor;
  Pair pair = make_pair();
  Probe probe;
  REQUIRE(probe.attach(reactor, pair.ours.get()) == 0);
  REQUIRE(reactor.arm(probe.watcher, interest_read) == 0);
  REQUIRE(probe.watcher.set_interest(interest_none) == 0);
  CHECK(reactor.watched() == 0);
  pair.theirs.reset();
  CHECK(reactor.turn() == 0);
  CHECK(probe.notified.empty());
}

TEST_CASE("interest and arming take turns") {
  OpenReactor reactor;
  const Pair pair = make_pair();
  Probe probe;
  REQUIRE(probe.attach(reactor, pair.ours.get()) == 0);
  REQUIRE(reactor.arm(probe.watcher, interest_write) == 0);
  REQUIRE(probe.watcher.set_interest(interest_write) == 0);
  for (int i = 0; i < 3; ++i) reactor.turn();
  CHECK(probe.notified.size() == 3);
  REQUIRE(reactor.arm(probe.watcher, interest_write) == 0);
  for (int i = 0; i < 3; ++i) reactor.turn();
  CHECK(probe.notified.size() == 4);
}

TEST_CASE("what was disarmed is silent, and comes back by one call") {
  OpenReactor reactor;
  Pair pair = make_pair();
  put(pair.theirs.get(), "x");
  Probe probe;
  probe.watch(reactor, pair.ours.get(), interest_both);
  const Interposer kernel;
  reactor.disarm(probe.watcher);
  CHECK(reactor.watched() == 0);
  CHECK(reactor.turn() == 0);
  REQUIRE(probe.watcher.set_interest(interest_read) == 0);
  CHECK(kernel.poller_control.count == 2);
  reactor.turn();
  CHECK(probe.notified == Bits{interest_read});
  reactor.disarm(probe.watcher);
  pair.theirs.reset();
  reactor.turn();  // the last word
  CHECK(reactor.turn() == 0);
  CHECK(probe.notified == Bits{interest_read});
  probe.watcher.detach();
  CHECK(kernel.poller_control.count == 4);
}

}  // namespace
