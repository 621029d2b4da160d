// A batch of events: in which order a reactor dispatches it, and what a callback changes about the rest.
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstddef>
#include <deque>
#include <memory>
#include <vector>

#include "support/catch.hpp"
#include "support/open_reactor.hpp"
#include "support/probe.hpp"
#include "support/signals.hpp"
#include "support/sockets.hpp"

namespace {

using zloop::interest_read;
using zloop::interest_write;
using zloop::test::Fd;
using zloop::test::make_pair;
using zloop::test::OpenReactor;
using zloop::test::Pair;
using zloop::test::patience_ns;
using zloop::test::Probe;
using zloop::test::put;

constexpr unsigned interest_both = interest_read | interest_write;

using Bits = std::vector<unsigned>;

// Two watchers ready in one batch; whichever is notified first deals with the other.
struct Rivals {
  Rivals() {
    for (std::size_t i = 0; i < 2; ++i) {
      put(pairs.at(i).theirs.get(), "x");
      probes.at(i).watch(reactor, pairs.at(i).ours.get(), interest_read);
    }
  }

  // deal(i): with the one that has not been notified yet.
  template <typename Deal>
  void when_one_is_notified(Deal deal) {
    probes[0].react = [deal] { deal(1); };
    probes[1].react = [deal] { deal(0); };
  }

  [[nodiscard]] std::size_t notified() const { return probes[0].notified.size() + probes[1].notified.size(); }

  OpenReactor reactor;
  std::array<Pair, 2> pairs{make_pair(), make_pair()};
  std::array<Probe, 2> probes;
};

TEST_CASE("a watcher that an earlier callback of the batch detached is not notified") {
  Rivals rivals;
  rivals.when_one_is_notified([&](std::size_t other) { rivals.probes.at(other).watcher.detach(); });
  REQUIRE(rivals.reactor.turn() == 2);
  CHECK(rivals.notified() == 1);
}

TEST_CASE("a watcher that lost its interest earlier in the batch is not notified") {
  Rivals rivals;
  rivals.when_one_is_notified([&](std::size_t other) { rivals.probes.at(other).watcher.drop_interest(interest_both); });
  REQUIRE(rivals.reactor.turn() == 2);
  CHECK(rivals.notified() == 1);
}

TEST_CASE("a watcher that is refreshed earlier in the batch is notified by the next wait") {
  Rivals rivals;
  rivals.when_one_is_notified(
      [&](std::size_t other) { CHECK(rivals.reactor.refresh(rivals.probes.at(other).watcher)); });
  REQUIRE(rivals.reactor.turn() == 2);
  CHECK(rivals.notified() == 1);
  rivals.when_one_is_notified([](std::size_t) {});
  REQUIRE(rivals.reactor.turn() == 2);
  CHECK(rivals.notified() == 3);
}

TEST_CASE("a watcher that is interested anew in a batch, after it was not, is notified by the next wait") {
  OpenReactor reactor;
  const Pair pair = make_pair();
  put(pair.theirs.get(), "x");
  Probe probe;
  probe.watch(reactor, pair.ours.get(), interest_read);
  REQUIRE(reactor.wait(0) == 1);
  SECTION("disarmed") {
    reactor.disarm(probe.watcher);
    CHECK(probe.watcher.interest() == zloop::interest_none);
  }
  SECTION("refreshed and disarmed") {
    REQUIRE(reactor.refresh(probe.watcher));
    reactor.disarm(probe.watcher);
  }
  SECTION("interested in nothing") { REQUIRE(probe.watcher.set_interest(zloop::interest_none) == 0); }
  REQUIRE(probe.watcher.set_interest(interest_read) == 0);
  reactor.dispatch();
  CHECK(probe.notified.empty());
  reactor.turn();
  CHECK(probe.notified == Bits{interest_read});
}

TEST_CASE("the rest of an event does not reach the next watcher of its number, also where the last one was renewed") {
  OpenReactor reactor;
  Pair pair = make_pair();
  const Pair next = make_pair();
  Probe probe;
  Probe newcomer;
  REQUIRE(probe.attach(reactor, pair.ours.get()) == 0);
  REQUIRE(reactor.arm(probe.watcher, interest_read) == 0);
  pair.theirs.reset();  // a hang-up: ready for both
  probe.react = [&] {
    REQUIRE(::dup2(next.ours.get(), pair.ours.get()) == pair.ours.get());
    probe.watcher.renew();
    probe.watcher.detach();
    newcomer.watch(reactor, pair.ours.get(), interest_write);
  };
  reactor.turn();
  CHECK(probe.notified == Bits{interest_read});
  CHECK(newcomer.notified.empty());
  reactor.turn();
  CHECK(newcomer.notified == Bits{interest_write});
}

TEST_CASE("a batch that is dispatched inside of a callback ends the one around it") {
  OpenReactor reactor;
  const Pair pair = make_pair();
  put(pair.theirs.get(), "x");
  Probe probe;
  probe.watch(reactor, pair.ours.get(), interest_both);
  probe.react = [&] {
    if (probe.notified.size() == 1) reactor.turn();
  };
  reactor.turn();
  CHECK(probe.notified == Bits{interest_read, interest_read, interest_write});
}

TEST_CASE("a watcher that is not attached cannot be refreshed") {
  OpenReactor reactor;
  Probe probe;
  CHECK_FALSE(reactor.refresh(probe.watcher));
}

TEST_CASE("the events of a descriptor that was closed do not reach the next one with its number") {
  Rivals rivals;
  Pair next = make_pair();
  Probe newcomer;
  rivals.when_one_is_notified([&](std::size_t other) {
    Fd& closed = rivals.pairs.at(other).ours;
    rivals.probes.at(other).watcher.detach();
    REQUIRE(::dup2(next.ours.get(), closed.get()) == closed.get());  // closes it, and takes its number
    newcomer.watch(rivals.reactor, closed.get(), interest_read);
  });
  REQUIRE(rivals.reactor.turn() == 2);
  CHECK(rivals.notified() == 1);
  CHECK(newcomer.notified.empty());
  rivals.when_one_is_notified([](std::size_t) {});
  put(next.theirs.get(), "x");
  rivals.reactor.turn();
  CHECK(newcomer.notified == Bits{interest_read});
}

TEST_CASE("a watcher that is attached anew is notified by the next batch") {
  Rivals rivals;
  rivals.when_one_is_notified([&](std::size_t other) {
    Probe& probe = rivals.probes.at(other);
    probe.watcher.detach();
    probe.watch(rivals.reactor, rivals.pairs.at(other).ours.get(), interest_read);
  });
  REQUIRE(rivals.reactor.turn() == 2);
  CHECK(rivals.notified() == 1);
  rivals.when_one_is_notified([](std::size_t) {});
  REQUIRE(rivals.reactor.turn() == 2);
  CHECK(rivals.notified() == 3);
}

TEST_CASE("an interrupted dispatch leaves its other events to the next wait") {
  Rivals rivals;
  rivals.when_one_is_notified([&](std::size_t) { rivals.reactor.interrupt_dispatch(); });
  REQUIRE(rivals.reactor.turn() == 2);
  CHECK(rivals.notified() == 1);
  rivals.when_one_is_notified([](std::size_t) {});
  REQUIRE(rivals.reactor.turn() == 2);
  CHECK(rivals.notified() == 3);
}

TEST_CASE("what happens in the reading half of an event decides about the writing half") {
  OpenReactor reactor;
  const Pair pair = make_pair();
  put(pair.theirs.get(), "x");
  auto probe = std::make_unique<Probe>();
  probe->watch(reactor, pair.ours.get(), interest_both);
  const std::vector<unsigned>& notified = probe->notified;
  SECTION("detached") {
    probe->react = [&] { probe->watcher.detach(); };
    reactor.turn();
    CHECK(notified == Bits{interest_read});
  }
  SECTION("no longer interested in writing") {
    probe->react = [&] { CHECK(probe->watcher.set_interest(interest_read) == 0); };
    reactor.turn();
    CHECK(notified == Bits{interest_read});
  }
  SECTION("interrupted") {
    probe->react = [&] { reactor.interrupt_dispatch(); };
    reactor.turn();
    CHECK(notified == Bits{interest_read});
  }
  SECTION("gone") {
    bool reacted = false;
    probe->react = [&] {
      reacted = true;
      probe.reset();
    };
    reactor.turn();
    CHECK(reacted);
  }
}

TEST_CASE("more watchers than one batch holds are all notified") {
  OpenReactor reactor;
  const Pair pair = make_pair();
  put(pair.theirs.get(), "x");
  std::vector<Fd> duplicates;
  std::deque<Probe> probes;
  for (int i = 0; i < 600; ++i) {
    duplicates.emplace_back(::dup(pair.ours.get()));
    Probe& probe = probes.emplace_back();
    probe.watch(reactor, duplicates.back().get(), interest_read);
    probe.react = [&] { probe.watcher.drop_interest(interest_both); };
  }
  while (reactor.turn() > 0) continue;
  for (const Probe& probe : probes) REQUIRE(probe.notified == Bits{interest_read});
}

TEST_CASE("a signal interrupts a wait, and leaves nothing to dispatch") {
  OpenReactor reactor;
  const zloop::test::SignalStorm storm;
  CHECK(reactor.wait(patience_ns) == -EINTR);
  reactor.dispatch();
  CHECK(reactor.wait(0) == 0);
}

}  // namespace
