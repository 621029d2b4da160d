#include "zloop/reactor.hpp"

#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <deque>
#include <functional>
#include <limits>
#include <memory>
#include <optional>
#include <stop_token>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "support/allocation.hpp"
#include "support/catch.hpp"
#include "support/interposer.hpp"
#include "support/probe.hpp"
#include "support/signals.hpp"
#include "support/sockets.hpp"
#include "zloop/clock.hpp"
#include "zloop/inbox.hpp"

namespace {

using zloop::interest_none;
using zloop::interest_read;
using zloop::interest_write;
using zloop::Reactor;
using zloop::test::DescriptorLimit;
using zloop::test::Fd;
using zloop::test::Interposer;
using zloop::test::make_pair;
using zloop::test::Pair;
using zloop::test::patience_ns;
using zloop::test::Probe;
using zloop::test::put;
using zloop::test::with_allocations;

constexpr unsigned interest_both = interest_read | interest_write;

struct OpenReactor : Reactor {
  OpenReactor() { REQUIRE(open() == 0); }

  // What is ready at once, and no more.
  int turn() {
    const int count = wait(0);
    dispatch();
    return count;
  }
};

using Told = std::vector<unsigned>;

TEST_CASE("a reactor opens, closes, and opens again") {
  Reactor reactor;
  CHECK_FALSE(reactor.is_open());
  CHECK(reactor.poller_fd() == -1);
  for (int i = 0; i < 2; ++i) {
    REQUIRE(reactor.open() == 0);
    CHECK(reactor.is_open());
    CHECK(reactor.poller_fd() >= 0);
    CHECK(reactor.wait(0) == 0);
    reactor.close();
    CHECK_FALSE(reactor.is_open());
    CHECK(reactor.poller_fd() == -1);
  }
  reactor.close();
  CHECK_FALSE(reactor.is_open());
}

TEST_CASE("the user of a descriptor is told while it is attached") {
  OpenReactor reactor;
  const Pair pair = make_pair();
  Probe probe;
  REQUIRE(probe.attach_as_user(reactor, pair.ours.get()) == 0);
  CHECK(reactor.user_of(pair.ours.get()) == &probe);
  for (const int other : {pair.theirs.get(), -1, std::numeric_limits<int>::max()})
    CHECK(reactor.user_of(other) == nullptr);
  reactor.detach(probe.watcher);
  CHECK(reactor.user_of(pair.ours.get()) == nullptr);
}

TEST_CASE("what shares its descriptor with others is no user of it") {
  OpenReactor reactor;
  const Pair pair = make_pair();
  Probe probe;
  REQUIRE(probe.attach(reactor, pair.ours.get()) == 0);
  CHECK(reactor.user_of(pair.ours.get()) == nullptr);
}

TEST_CASE("a reactor that cannot open stays closed, and keeps nothing") {
  Reactor reactor;
  for (const int spare : {0, 1}) {  // nothing for the poller; nothing for the wake-up
    const DescriptorLimit limit(spare);
    CHECK(reactor.open() == -EMFILE);
    CHECK_FALSE(reactor.is_open());
  }
  CHECK(with_allocations(0, [&] { return reactor.open(); }) == -ENOMEM);
  CHECK_FALSE(reactor.is_open());
  Interposer kernel;
  kernel.poller_control.errors = {ENOSPC};
  CHECK(reactor.open() == -ENOSPC);
  CHECK_FALSE(reactor.is_open());
  CHECK(reactor.open() == 0);
}

TEST_CASE("a watcher is told what it is interested in, one bit at a time") {
  OpenReactor reactor;
  const Pair pair = make_pair();
  put(pair.theirs.get(), "x");
  Probe probe;
  REQUIRE(probe.attach(reactor, pair.ours.get()) == 0);
  CHECK(probe.watcher.attached());
  CHECK(probe.watcher.fd() == pair.ours.get());
  CHECK(&probe.watcher.reactor() == &reactor);
  CHECK(reactor.turn() == 0);
  REQUIRE(probe.watcher.set_interest(interest_read) == 0);
  CHECK(probe.watcher.interest() == interest_read);
  reactor.turn();
  REQUIRE(probe.watcher.set_interest(interest_write) == 0);
  reactor.turn();
  REQUIRE(probe.watcher.set_interest(interest_both) == 0);
  reactor.turn();
  REQUIRE(probe.watcher.set_interest(interest_none) == 0);
  CHECK(reactor.turn() == 0);
  CHECK(probe.told == Told{interest_read, interest_write, interest_read, interest_write});
}

TEST_CASE("asking for the interest that is there asks the kernel nothing") {
  OpenReactor reactor;
  const Pair pair = make_pair();
  Probe probe;
  probe.watch(reactor, pair.ours.get(), interest_read);
  const Interposer kernel;
  CHECK(probe.watcher.set_interest(interest_read) == 0);
  CHECK(kernel.poller_control.count == 0);
}

TEST_CASE("a reactor counts what it watches") {
  OpenReactor reactor;
  const Pair pair = make_pair();
  CHECK(reactor.watched() == 0);
  Probe probe;
  {
    Probe other;
    REQUIRE(probe.attach(reactor, pair.ours.get()) == 0);
    CHECK(reactor.watched() == 0);
    CHECK(reactor.set_interest(probe.watcher, interest_read) == 0);
    CHECK(reactor.set_interest(probe.watcher, interest_both) == 0);
    CHECK(reactor.watched() == 1);
    other.watch(reactor, pair.theirs.get(), interest_write);
    CHECK(reactor.watched() == 2);
  }
  CHECK(reactor.watched() == 1);
  CHECK(reactor.set_interest(probe.watcher, interest_none) == 0);
  CHECK(reactor.watched() == 0);
}

TEST_CASE("a reactor that has looked in vain for long leaves looks out, until an event is likely") {
  OpenReactor reactor;
  const Pair pair = make_pair();
  Probe probe;
  probe.watch(reactor, pair.ours.get(), interest_read);
  // The machine may take its time, which is a reason to look, too.
  const auto begin_to_skip = [&reactor] {
    int looks = 0;
    while (!reactor.skips_wait(0)) {
      REQUIRE(reactor.turn() == 0);
      REQUIRE(++looks < 10'000);
    }
    return looks;
  };
  CHECK(begin_to_skip() >= zloop::PollPacer::looks_in_vain);
  SECTION("it is told of one") {
    put(pair.theirs.get(), "x");
    CHECK(reactor.turn() == 1);
    CHECK_FALSE(reactor.skips_wait(0));
  }
  SECTION("something else is watched") {
    REQUIRE(reactor.set_interest(probe.watcher, interest_both) == 0);
    CHECK_FALSE(reactor.skips_wait(0));
  }
  SECTION("it has blocked") {
    REQUIRE(reactor.wait(1) == 0);
    CHECK_FALSE(reactor.skips_wait(0));
  }
  SECTION("the loop begins to run") {
    reactor.restart_pacing();
    CHECK_FALSE(reactor.skips_wait(0));
  }
}

TEST_CASE("a reactor does not look for what is unimportant") {
  OpenReactor reactor;
  const Pair pair = make_pair();
  Probe probe;
  probe.watch(reactor, pair.ours.get(), interest_read);
  CHECK_FALSE(reactor.skips_wait(0));
  CHECK(reactor.skips_wait(1));
}

TEST_CASE("a number can have one watcher") {
  OpenReactor reactor;
  const Pair pair = make_pair();
  Probe first;
  Probe second;
  REQUIRE(first.attach(reactor, pair.ours.get()) == 0);
  CHECK(second.attach(reactor, pair.ours.get()) == -EEXIST);
  CHECK_FALSE(second.watcher.attached());
  first.watcher.detach();
  CHECK_FALSE(first.watcher.attached());
  CHECK(first.watcher.fd() == -1);
  CHECK(second.attach(reactor, pair.ours.get()) == 0);
}

TEST_CASE("a number that cannot be a descriptor is refused") {
  OpenReactor reactor;
  Probe probe;
  CHECK(probe.attach(reactor, -1) == -EBADF);
  // No memory is spent on slots for all the numbers below.
  CHECK(probe.attach(reactor, std::numeric_limits<int>::max()) == -EBADF);
  CHECK_FALSE(probe.watcher.attached());
}

TEST_CASE("attaching reports that memory is out") {
  OpenReactor reactor;
  const Pair pair = make_pair();
  Probe probe;
  CHECK(with_allocations(0, [&] { return probe.attach(reactor, pair.ours.get()); }) == -ENOMEM);
  CHECK_FALSE(probe.watcher.attached());
  CHECK(probe.attach(reactor, pair.ours.get()) == 0);
}

TEST_CASE("a detached watcher takes no interest") {
  OpenReactor reactor;
  Probe probe;
  CHECK(probe.watcher.set_interest(interest_read) == -EBADF);
  CHECK(reactor.set_interest(probe.watcher, interest_read) == -EBADF);
  probe.watcher.detach();
  reactor.detach(probe.watcher);
  CHECK(probe.watcher.interest() == interest_none);
}

TEST_CASE("a watcher that goes is detached, a reactor that goes detaches") {
  const Pair pair = make_pair();
  put(pair.theirs.get(), "x");
  std::optional<OpenReactor> reactor(std::in_place);
  {
    Probe passing;
    passing.watch(*reactor, pair.ours.get(), interest_read);
  }
  CHECK(reactor->turn() == 0);
  Probe closed;
  closed.watch(*reactor, pair.ours.get(), interest_read);
  reactor->close();
  CHECK_FALSE(closed.watcher.attached());
  CHECK(closed.watcher.set_interest(interest_read) == -EBADF);
  REQUIRE(reactor->open() == 0);
  closed.watch(*reactor, pair.ours.get(), interest_read);
  reactor.reset();
  CHECK_FALSE(closed.watcher.attached());
}

TEST_CASE("closing the reactor from a callback ends the dispatch") {
  OpenReactor reactor;
  std::array<Pair, 2> pairs{make_pair(), make_pair()};
  std::array<Probe, 2> probes;
  for (std::size_t i = 0; i < 2; ++i) {
    put(pairs.at(i).theirs.get(), "x");
    probes.at(i).watch(reactor, pairs.at(i).ours.get(), interest_read);
    probes.at(i).react = [&] { reactor.close(); };
  }
  REQUIRE(reactor.turn() == 2);
  CHECK(probes[0].told.size() + probes[1].told.size() == 1);
}

TEST_CASE("a regular file cannot be watched, and its watcher stays as it was", "[linux]") {
  OpenReactor reactor;
  const Fd regular_file = zloop::test::make_regular_file();
  Probe probe;
  REQUIRE(probe.attach(reactor, regular_file.get()) == 0);
  CHECK(probe.watcher.set_interest(interest_read) == -EPERM);
  CHECK(probe.watcher.interest() == interest_none);
  CHECK(probe.watcher.attached());
}

TEST_CASE("a change that fails keeps the interest there was") {
  OpenReactor reactor;
  const Pair pair = make_pair();
  put(pair.theirs.get(), "x");
  Probe probe;
  probe.watch(reactor, pair.ours.get(), interest_read);
  {
    Interposer kernel;
    kernel.poller_control.errors = {ENOMEM};
    CHECK(probe.watcher.set_interest(interest_both) == -ENOMEM);
  }
  CHECK(probe.watcher.interest() == interest_read);
  reactor.turn();
  CHECK(probe.told == Told{interest_read});
}

TEST_CASE("a descriptor that was closed under its watcher is quiet, and can be detached") {
  OpenReactor reactor;
  Pair pair = make_pair();
  put(pair.theirs.get(), "x");
  Probe probe;
  const int fd = pair.ours.get();
  probe.watch(reactor, fd, interest_read);
  pair.ours.reset();
  CHECK(reactor.turn() == 0);
  CHECK(probe.watcher.set_interest(interest_both) == -EBADF);
  CHECK(probe.watcher.interest() == interest_none);
  CHECK(probe.watcher.lost());
  CHECK(probe.watcher.set_interest(interest_none) == 0);
  probe.watcher.detach();
  CHECK_FALSE(probe.watcher.attached());
}

TEST_CASE("a hang-up that nobody is interested in does not keep the loop busy") {
  OpenReactor reactor;
  Pair pair = make_pair();
  Probe probe;
  probe.watch(reactor, pair.ours.get(), interest_read);
  pair.theirs.reset();
  CHECK(reactor.turn() == 1);
  REQUIRE(probe.watcher.set_interest(interest_none) == 0);
  CHECK(reactor.wait(1'000'000) == 0);
}

TEST_CASE("a hang-up is told as what the watcher is interested in") {
  OpenReactor reactor;
  Pair pair = make_pair();
  Probe probe;
  const unsigned interest = GENERATE(unsigned{interest_read}, unsigned{interest_write});
  probe.watch(reactor, pair.ours.get(), interest);
  pair.theirs.reset();
  reactor.turn();
  CHECK(probe.told == Told{interest});
}

// Two watchers ready in one batch; whichever is told first deals with the other.
struct Rivals {
  Rivals() {
    for (std::size_t i = 0; i < 2; ++i) {
      put(pairs.at(i).theirs.get(), "x");
      probes.at(i).watch(reactor, pairs.at(i).ours.get(), interest_read);
    }
  }

  // deal(i): with the one that has not been told yet.
  template <typename Deal>
  void when_one_is_told(Deal deal) {
    probes[0].react = [deal] { deal(1); };
    probes[1].react = [deal] { deal(0); };
  }

  [[nodiscard]] std::size_t told() const { return probes[0].told.size() + probes[1].told.size(); }

  OpenReactor reactor;
  std::array<Pair, 2> pairs{make_pair(), make_pair()};
  std::array<Probe, 2> probes;
};

TEST_CASE("a watcher that an earlier callback of the batch detached is not told") {
  Rivals rivals;
  rivals.when_one_is_told([&](std::size_t other) { rivals.probes.at(other).watcher.detach(); });
  REQUIRE(rivals.reactor.turn() == 2);
  CHECK(rivals.told() == 1);
}

TEST_CASE("a watcher that lost its interest earlier in the batch is not told") {
  Rivals rivals;
  rivals.when_one_is_told([&](std::size_t other) { rivals.probes.at(other).watcher.drop_interest(interest_both); });
  REQUIRE(rivals.reactor.turn() == 2);
  CHECK(rivals.told() == 1);
}

TEST_CASE("a watcher that is refreshed earlier in the batch is told by the next wait") {
  Rivals rivals;
  rivals.when_one_is_told([&](std::size_t other) { CHECK(rivals.reactor.refresh(rivals.probes.at(other).watcher)); });
  REQUIRE(rivals.reactor.turn() == 2);
  CHECK(rivals.told() == 1);
  rivals.when_one_is_told([](std::size_t) {});
  REQUIRE(rivals.reactor.turn() == 2);
  CHECK(rivals.told() == 3);
}

TEST_CASE("the events of a descriptor that was closed do not reach the next one with its number") {
  Rivals rivals;
  Pair next = make_pair();
  Probe newcomer;
  rivals.when_one_is_told([&](std::size_t other) {
    Fd& closed = rivals.pairs.at(other).ours;
    rivals.probes.at(other).watcher.detach();
    REQUIRE(::dup2(next.ours.get(), closed.get()) == closed.get());  // closes it, and takes its number
    newcomer.watch(rivals.reactor, closed.get(), interest_read);
  });
  REQUIRE(rivals.reactor.turn() == 2);
  CHECK(rivals.told() == 1);
  CHECK(newcomer.told.empty());
  rivals.when_one_is_told([](std::size_t) {});
  put(next.theirs.get(), "x");
  rivals.reactor.turn();
  CHECK(newcomer.told == Told{interest_read});
}

TEST_CASE("a watcher that is attached anew is told by the next batch") {
  Rivals rivals;
  rivals.when_one_is_told([&](std::size_t other) {
    Probe& probe = rivals.probes.at(other);
    probe.watcher.detach();
    probe.watch(rivals.reactor, rivals.pairs.at(other).ours.get(), interest_read);
  });
  REQUIRE(rivals.reactor.turn() == 2);
  CHECK(rivals.told() == 1);
  rivals.when_one_is_told([](std::size_t) {});
  REQUIRE(rivals.reactor.turn() == 2);
  CHECK(rivals.told() == 3);
}

TEST_CASE("an interrupted dispatch leaves its other events to the next wait") {
  Rivals rivals;
  rivals.when_one_is_told([&](std::size_t) { rivals.reactor.interrupt_dispatch(); });
  REQUIRE(rivals.reactor.turn() == 2);
  CHECK(rivals.told() == 1);
  rivals.when_one_is_told([](std::size_t) {});
  REQUIRE(rivals.reactor.turn() == 2);
  CHECK(rivals.told() == 3);
}

TEST_CASE("what happens in the reading half of an event decides about the writing half") {
  OpenReactor reactor;
  const Pair pair = make_pair();
  put(pair.theirs.get(), "x");
  auto probe = std::make_unique<Probe>();
  probe->watch(reactor, pair.ours.get(), interest_both);
  const std::vector<unsigned>& told = probe->told;
  SECTION("detached") {
    probe->react = [&] { probe->watcher.detach(); };
    reactor.turn();
    CHECK(told == Told{interest_read});
  }
  SECTION("no longer interested in writing") {
    probe->react = [&] { CHECK(probe->watcher.set_interest(interest_read) == 0); };
    reactor.turn();
    CHECK(told == Told{interest_read});
  }
  SECTION("interrupted") {
    probe->react = [&] { reactor.interrupt_dispatch(); };
    reactor.turn();
    CHECK(told == Told{interest_read});
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

TEST_CASE("what is armed is told once") {
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
    CHECK(probe.told == Told(times, interest_read));
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
  CHECK(probe.told == Told(4, interest_write));
}

TEST_CASE("what an event did not tell stays armed") {
  OpenReactor reactor;
  Pair pair = make_pair();
  Probe probe;
  REQUIRE(probe.attach(reactor, pair.ours.get()) == 0);
  REQUIRE(reactor.arm(probe.watcher, interest_both) == 0);
  reactor.turn();
  reactor.turn();
  CHECK(probe.told == Told{interest_write});
  put(pair.theirs.get(), "x");
  reactor.turn();
  reactor.turn();
  CHECK(probe.told == Told{interest_write, interest_read});
}

TEST_CASE("armed anew in the same batch, a watcher is told by the next one") {
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
    CHECK(probe.told.empty());
    reactor.turn();
    CHECK(probe.told == Told{interest_read, interest_write});
  }
  SECTION("after it was disarmed") {
    reactor.disarm(probe.watcher);
    REQUIRE(reactor.arm(probe.watcher, interest_read) == 0);
    reactor.dispatch();
    CHECK(probe.told.empty());
    reactor.turn();
    CHECK(probe.told == Told{interest_read});
  }
}

TEST_CASE("an interrupted dispatch loses nothing that was armed") {
  OpenReactor reactor;
  std::deque<Pair> pairs;
  std::deque<Probe> probes(3);
  int told = 0;
  for (Probe& probe : probes) {
    pairs.push_back(make_pair());
    put(pairs.back().theirs.get(), "x");
    probe.react = [&] {
      ++told;
      reactor.interrupt_dispatch();
    };
    REQUIRE(probe.attach(reactor, pairs.back().ours.get()) == 0);
    REQUIRE(reactor.arm(probe.watcher, interest_both) == 0);
  }
  REQUIRE(reactor.wait(0) == 3);  // and no dispatch: an exception may end a turn before it
  for (int turns = 1; turns <= 6; ++turns) {
    reactor.turn();
    CHECK(told == turns);
  }
  CHECK(reactor.turn() == 0);
  for (const Probe& probe : probes) CHECK(probe.told == Told{interest_read, interest_write});
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
  CHECK(probe.told == Told{interest_read});
  put(after.theirs.get(), "x");
  reactor.turn();
  CHECK(probe.told == Told{interest_read, interest_read});
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
  CHECK(probe.told == Told{interest_write});
  probe.watcher.detach();
  CHECK(reactor.arm(probe.watcher, interest_read) == -EBADF);
}

TEST_CASE("interest and arming take turns") {
  OpenReactor reactor;
  const Pair pair = make_pair();
  Probe probe;
  REQUIRE(probe.attach(reactor, pair.ours.get()) == 0);
  REQUIRE(reactor.arm(probe.watcher, interest_write) == 0);
  REQUIRE(probe.watcher.set_interest(interest_write) == 0);
  for (int i = 0; i < 3; ++i) reactor.turn();
  CHECK(probe.told.size() == 3);
  REQUIRE(reactor.arm(probe.watcher, interest_write) == 0);
  for (int i = 0; i < 3; ++i) reactor.turn();
  CHECK(probe.told.size() == 4);
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
  CHECK(probe.told == Told{interest_read});
  reactor.disarm(probe.watcher);
  pair.theirs.reset();
  reactor.turn();  // the last word
  CHECK(reactor.turn() == 0);
  CHECK(probe.told == Told{interest_read});
  probe.watcher.detach();
  CHECK(kernel.poller_control.count == 4);
}

TEST_CASE("more watchers than one batch holds are all told") {
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
  for (const Probe& probe : probes) REQUIRE(probe.told == Told{interest_read});
}

TEST_CASE("a signal interrupts a wait, and leaves nothing to dispatch") {
  OpenReactor reactor;
  const zloop::test::SignalStorm storm;
  CHECK(reactor.wait(patience_ns) == -EINTR);
  reactor.dispatch();
  CHECK(reactor.wait(0) == 0);
}

// How long a wait lasts that ought not to last.
std::int64_t waited_ns(Reactor& reactor) {
  const std::int64_t before = zloop::monotonic_ns();
  CHECK(reactor.wait(patience_ns) >= 0);
  return zloop::monotonic_ns() - before;
}

TEST_CASE("a notification makes the next wait return") {
  OpenReactor reactor;
  CHECK_FALSE(reactor.notify());
  CHECK(waited_ns(reactor) < patience_ns);
  const std::int64_t timeout_ns = 2'000'000;
  const std::int64_t before = zloop::monotonic_ns();
  CHECK(reactor.wait(timeout_ns) == 0);  // that was the only one
  CHECK(zloop::monotonic_ns() - before >= timeout_ns);
}

TEST_CASE("a notification makes a wait return that is going on") {
  OpenReactor reactor;
  const std::jthread notifier([&reactor] {
    // True from a thread that found it asleep.
    while (!reactor.notify()) std::this_thread::yield();
  });
  int waited = 0;
  while (waited == 0) waited = reactor.wait(-1);
  CHECK(waited == 1);
  reactor.dispatch();
  CHECK(reactor.wait(0) == 0);
}

// A thread that leaves one item after another in the loop's inbox, each when the loop has taken the one before, until
// it has found the loop asleep so many times. The items are the producer itself.
class Producer {
 public:
  static constexpr int wakes_wanted = 300;

  Producer(Reactor& reactor, zloop::Inbox& inbox)
      : reactor_(reactor), inbox_(inbox), thread_([this](const std::stop_token& stop) { run(stop); }) {}

  void take() { ++taken_; }
  [[nodiscard]] bool running() const { return running_; }

  // How often it has found the loop asleep; ends the thread.
  int wakes() {
    thread_.request_stop();
    thread_.join();
    return wakes_;
  }

 private:
  void run(const std::stop_token& stop) {
    for (int left = 1; wakes_ < wakes_wanted && !stop.stop_requested(); ++left) {
      inbox_.push(this);
      if (reactor_.notify()) ++wakes_;
      while (taken_ < left && !stop.stop_requested()) std::this_thread::yield();
    }
    running_ = false;
    if (reactor_.notify()) ++wakes_;
  }

  Reactor& reactor_;
  zloop::Inbox& inbox_;
  std::atomic<int> taken_{0};
  std::atomic<bool> running_{true};
  int wakes_ = 0;  // the thread's, until it has ended
  std::jthread thread_;
};

TEST_CASE("threads that leave work while the loop goes to sleep: all of it is found, no wake-up is doubled") {
  OpenReactor reactor;
  zloop::Inbox inbox;
  zloop::ReadyQueue queue;
  std::deque<Producer> producers;
  for (int i = 0; i < 4; ++i) producers.emplace_back(reactor, inbox);
  int waits = 0;
  while (std::ranges::any_of(producers, &Producer::running)) {
    ++waits;
    const std::int64_t before = zloop::monotonic_ns();
    REQUIRE(reactor.wait(patience_ns) >= 0);
    REQUIRE(zloop::monotonic_ns() - before < patience_ns);  // or a notification was lost
    reactor.dispatch();
    if (inbox.pending()) inbox.take_into(queue);
    while (!queue.empty()) static_cast<Producer*>(queue.pop_front())->take();
  }
  int wakes = 0;
  for (Producer& producer : producers) wakes += producer.wakes();
  CHECK(wakes >= 4 * Producer::wakes_wanted);
  CHECK(wakes <= waits);
}

namespace {

// Runs `child` in a forked process; true if it returned true there.
template <typename Child>
bool holds_in_a_fork(Child child) {
  const pid_t pid = fork();
  if (pid == 0) _exit(child() ? 0 : 1);
  int status = -1;
  REQUIRE(waitpid(pid, &status, 0) == pid);
  return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

}  // namespace

TEST_CASE("what a forked child does with its reactor does not reach the parent's") {
  Reactor reactor;
  REQUIRE(reactor.open() == 0);
  const Pair pair = make_pair();
  Probe probe;
  probe.watch(reactor, pair.ours.get(), interest_read);

  CHECK(holds_in_a_fork([&] {
    reactor.detach(probe.watcher);
    reactor.close();
    return !reactor.is_open();
  }));

  put(pair.theirs.get(), "x");
  REQUIRE(reactor.wait(patience_ns) == 1);
  reactor.dispatch();
  CHECK(probe.told == std::vector<unsigned>{interest_read});
}

TEST_CASE("a forked child goes on with the watchers it inherited, and with a wake-up of its own") {
  Reactor reactor;
  REQUIRE(reactor.open() == 0);
  const Pair pair = make_pair();
  Probe probe;
  probe.watch(reactor, pair.ours.get(), interest_read);

  CHECK(holds_in_a_fork([&] {
    if (reactor.wait(0) != 0) return false;
    const std::jthread waker([&] { reactor.notify(); });
    if (reactor.wait(patience_ns) < 0) return false;
    put(pair.theirs.get(), "x");
    while (probe.told.empty()) {
      if (reactor.wait(patience_ns) <= 0) return false;
      reactor.dispatch();
    }
    return probe.told.front() == interest_read;
  }));
  CHECK(probe.told.empty());
}

TEST_CASE("what connections share is of the sizes that they go by") {
  Reactor reactor;
  CHECK(reactor.read_buffer().size() == Reactor::read_buffer_size);
  CHECK(reactor.datagram_buffer().size() == Reactor::datagram_buffer_size);
  CHECK(reactor.output_buffer().size() == Reactor::output_buffer_size);
}

}  // namespace
