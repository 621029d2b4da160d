#include "zloop/reactor.hpp"

#include <fcntl.h>

#include <array>
#include <cerrno>
#include <cstddef>
#include <limits>
#include <optional>
#include <vector>

#include "support/allocation.hpp"
#include "support/catch.hpp"
#include "support/interposer.hpp"
#include "support/open_reactor.hpp"
#include "support/probe.hpp"
#include "support/sockets.hpp"

namespace {

using zloop::interest_none;
using zloop::interest_read;
using zloop::interest_write;
using zloop::Reactor;
using zloop::test::DescriptorLimit;
using zloop::test::Fd;
using zloop::test::Interposer;
using zloop::test::make_pair;
using zloop::test::OpenReactor;
using zloop::test::Pair;
using zloop::test::Probe;
using zloop::test::put;
using zloop::test::with_allocations;

constexpr unsigned interest_both = interest_read | interest_write;

using Bits = std::vector<unsigned>;

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

TEST_CASE("the user of a descriptor is known while it is attached") {
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

TEST_CASE("a new watcher has no descriptor and no interest, and has lost nothing") {
  zloop::OwnedWatcher watcher;
  CHECK(watcher.fd() == -1);
  CHECK(watcher.interest() == interest_none);
  CHECK(watcher.owner() == nullptr);
  CHECK_FALSE(watcher.attached());
  CHECK_FALSE(watcher.lost());
  watcher.set_owner(&watcher);
  CHECK(watcher.owner() == &watcher);
}

TEST_CASE("a watcher is notified of what it is interested in, one bit at a time") {
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
  CHECK(probe.notified == Bits{interest_read, interest_write, interest_read, interest_write});
}

TEST_CASE("asking for the interest that is there asks the kernel nothing") {
  OpenReactor reactor;
  const Pair pair = make_pair();
  Probe probe;
  probe.watch(reactor, pair.ours.get(), interest_read);
  const Interposer kernel;
  CHECK(probe.watcher.set_interest(interest_read) == 0);
  probe.watcher.drop_interest(interest_write);
  CHECK(probe.watcher.interest() == interest_read);
  CHECK(kernel.poller_control.count == 0);
}

TEST_CASE("a reactor counts its waits") {
  OpenReactor reactor;
  const auto before = reactor.waits();
  reactor.dispatch();
  CHECK(reactor.waits() == before);
  for (int i = 0; i < 2; ++i) reactor.turn();
  CHECK(reactor.waits() == before + 2);
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

TEST_CASE("a reactor skips polls after many empty ones, until an event is likely") {
  OpenReactor reactor;
  const Pair pair = make_pair();
  Probe probe;
  probe.watch(reactor, pair.ours.get(), interest_read);
  // The machine may take its time, which is a reason to look, too.
  const auto begin_to_skip = [&reactor] {
    int looks = 0;
    while (!reactor.skips_poll(0)) {
      REQUIRE(reactor.turn() == 0);
      REQUIRE(++looks < 10'000);
    }
    return looks;
  };
  CHECK(begin_to_skip() >= zloop::AdaptivePolling::empty_polls_to_skip);
  SECTION("it is notified of one") {
    put(pair.theirs.get(), "x");
    CHECK(reactor.turn() == 1);
    CHECK_FALSE(reactor.skips_poll(0));
  }
  SECTION("something else is watched") {
    REQUIRE(reactor.set_interest(probe.watcher, interest_both) == 0);
    CHECK_FALSE(reactor.skips_poll(0));
  }
  SECTION("it has blocked") {
    REQUIRE(reactor.wait(1) == 0);
    CHECK_FALSE(reactor.skips_poll(0));
  }
  SECTION("the loop begins to run") {
    reactor.reset_adaptive_polling();
    CHECK_FALSE(reactor.skips_poll(0));
  }
}

TEST_CASE("a reactor does not poll for watchers that are ignored") {
  OpenReactor reactor;
  const Pair pair = make_pair();
  Probe probe;
  probe.watch(reactor, pair.ours.get(), interest_read);
  CHECK_FALSE(reactor.skips_poll(0));
  CHECK(reactor.skips_poll(1));
}

TEST_CASE("a reactor without adaptive polling polls in every turn") {
  OpenReactor reactor;
  reactor.disable_adaptive_polling();
  for (int i = 0; i < 3 * zloop::AdaptivePolling::empty_polls_to_skip; ++i) {
    CHECK_FALSE(reactor.skips_poll(0));
    CHECK(reactor.turn() == 0);
  }
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

TEST_CASE("a number that is not open is refused unless a higher one was attached") {
  OpenReactor reactor;
  const Pair pair = make_pair();
  const int above = zloop::test::open_descriptors().back() + 2;
  const Fd highest(::fcntl(pair.ours.get(), F_DUPFD_CLOEXEC, above));
  REQUIRE(highest.get() == above);
  Probe probe;
  Probe other;
  REQUIRE(probe.attach(reactor, above) == 0);
  CHECK(other.attach(reactor, above + 1) == -EBADF);
  CHECK(other.attach(reactor, above - 1) == 0);
  CHECK(other.watcher.set_interest(interest_read) == -EBADF);
}

TEST_CASE("the number 0 is a descriptor as any other") {
  OpenReactor reactor;
  const zloop::test::NumberZero free;
  const Pair pair = make_pair();
  REQUIRE(pair.ours.get() == 0);
  Probe probe;
  REQUIRE(probe.attach_as_user(reactor, 0) == 0);
  CHECK(reactor.user_of(0) == &probe);
  REQUIRE(probe.watcher.set_interest(interest_read) == 0);
  put(pair.theirs.get(), "x");
  reactor.turn();
  CHECK(probe.notified == Bits{interest_read});
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
  CHECK(probes[0].notified.size() + probes[1].notified.size() == 1);
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
  CHECK(probe.notified == Bits{interest_read});
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

TEST_CASE("a hang-up is reported as what the watcher is interested in") {
  OpenReactor reactor;
  Pair pair = make_pair();
  Probe probe;
  const unsigned interest = GENERATE(unsigned{interest_read}, unsigned{interest_write});
  probe.watch(reactor, pair.ours.get(), interest);
  pair.theirs.reset();
  reactor.turn();
  CHECK(probe.notified == Bits{interest});
}

TEST_CASE("what connections share is of the sizes that they go by") {
  Reactor reactor;
  CHECK(reactor.read_buffer().size() == Reactor::read_buffer_size);
  CHECK(reactor.datagram_buffer().size() == Reactor::datagram_buffer_size);
  CHECK(reactor.output_buffer().size() == Reactor::output_buffer_size);
  CHECK(Reactor::read_buffer_size == 256U << 10U);  // asyncio's most, too
  CHECK(Reactor::datagram_buffer_size == 1U << 20U);
  CHECK(Reactor::output_buffer_size == 280'704U);
}

}  // namespace
