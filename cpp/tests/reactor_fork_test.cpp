// A reactor in the child of a fork: it makes a poller and a wake-up of its own, and its parent's stay as they are.
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstddef>
#include <thread>
#include <vector>

#include "support/catch.hpp"
#include "support/child.hpp"
#include "support/interposer.hpp"
#include "support/open_reactor.hpp"
#include "support/probe.hpp"
#include "support/sockets.hpp"

namespace {

using zloop::interest_none;
using zloop::interest_read;
using zloop::interest_write;
using zloop::Reactor;
using zloop::test::Fd;
using zloop::test::Interposer;
using zloop::test::make_pair;
using zloop::test::open_descriptors;
using zloop::test::OpenReactor;
using zloop::test::Pair;
using zloop::test::patience_ns;
using zloop::test::Probe;
using zloop::test::put;

using Bits = std::vector<unsigned>;

// Runs child(holds) in a forked process, which ends where holds(false) is called. Zero, or the number of that call.
template <typename Child>
int failed_in_a_fork(Child child) {
  const pid_t pid = ::fork();
  REQUIRE(pid >= 0);
  if (pid == 0) {
    int step = 0;
    child([&step](bool truth) {
      ++step;
      if (!truth) zloop::test::end_child(step);
    });
    zloop::test::end_child(0);
  }
  int status = -1;
  REQUIRE(::waitpid(pid, &status, 0) == pid);
  return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

TEST_CASE("what a forked child does with its reactor does not reach the parent's") {
  OpenReactor reactor;
  const Pair pair = make_pair();
  Probe probe;
  probe.watch(reactor, pair.ours.get(), interest_read);

  CHECK(failed_in_a_fork([&](auto holds) {
          reactor.detach(probe.watcher);
          reactor.close();
          holds(!reactor.is_open());
        }) == 0);

  put(pair.theirs.get(), "x");
  REQUIRE(reactor.wait(patience_ns) == 1);
  reactor.dispatch();
  CHECK(probe.notified == Bits{interest_read});
}

TEST_CASE("a forked child goes on with the watchers it inherited, and with a wake-up of its own") {
  OpenReactor reactor;
  const Pair pair = make_pair();
  Probe probe;
  probe.watch(reactor, pair.ours.get(), interest_read);

  CHECK(failed_in_a_fork([&](auto holds) {
          holds(reactor.wait(0) == 0);
          const std::jthread waker([&] { reactor.notify(); });
          holds(reactor.wait(patience_ns) >= 0);
          put(pair.theirs.get(), "x");
          while (probe.notified.empty()) {
            holds(reactor.wait(patience_ns) > 0);
            reactor.dispatch();
          }
          holds(probe.notified.front() == interest_read);
        }) == 0);
  CHECK(probe.notified.empty());
}

TEST_CASE("a forked child does not go on with the events that its parent has fetched, but fetches its own") {
  OpenReactor reactor;
  const Pair pair = make_pair();
  const Pair other_pair = make_pair();
  put(pair.theirs.get(), "x");
  Probe probe;
  Probe other;
  probe.watch(reactor, pair.ours.get(), interest_read);
  REQUIRE(other.attach(reactor, other_pair.ours.get()) == 0);
  REQUIRE(reactor.wait(0) == 1);

  CHECK(failed_in_a_fork([&](auto holds) {
          holds(other.watcher.set_interest(interest_read) == 0);
          reactor.dispatch();
          holds(probe.notified.empty());
          holds(reactor.turn() == 1);
          holds(probe.notified == Bits{interest_read});
        }) == 0);

  reactor.dispatch();
  CHECK(probe.notified == Bits{interest_read});
}

TEST_CASE("a forked child opens one poller, and keeps it", "[linux]") {
  OpenReactor reactor;
  const Pair pair = make_pair();
  Probe probe;
  REQUIRE(probe.attach(reactor, pair.ours.get()) == 0);

  CHECK(failed_in_a_fork([&](auto holds) {
          const Interposer kernel;
          for (int i = 0; i < 2; ++i) holds(reactor.turn() == 0);
          holds(probe.watcher.set_interest(interest_read) == 0);
          holds(reactor.turn() == 0);
          holds(kernel.poller_open.count == 1);
        }) == 0);
}

TEST_CASE("a forked child that cannot watch what it inherited keeps no descriptor of the attempt", "[linux]") {
  OpenReactor reactor;
  const Pair pair = make_pair();
  Probe probe;
  probe.watch(reactor, pair.ours.get(), interest_read);

  CHECK(failed_in_a_fork([&](auto holds) {
          const std::size_t before = open_descriptors().size();
          {
            Interposer kernel;
            kernel.poller_control.errors = {0, ENOMEM};  // the wake-up can be watched
            holds(reactor.wait(0) == -ENOMEM);
          }
          holds(open_descriptors().size() == before - 2);  // the inherited ones
          holds(reactor.wait(0) == 0);
          holds(open_descriptors().size() == before);
        }) == 0);
}

TEST_CASE("in a forked child that cannot have a poller interest and arming fail, and leave what there was") {
  OpenReactor reactor;
  const Pair pair = make_pair();
  Probe probe;
  probe.watch(reactor, pair.ours.get(), interest_read);

  CHECK(failed_in_a_fork([&](auto holds) {
          {
            Interposer kernel;
            kernel.poller_control.errors = {ENOMEM, ENOMEM};
            holds(reactor.arm(probe.watcher, interest_write) == -ENOMEM);
            holds(probe.watcher.set_interest(interest_write) == -ENOMEM);
          }
          holds(probe.watcher.interest() == interest_read);
          holds(reactor.turn() == 0);
          holds(reactor.arm(probe.watcher, interest_write) == 0);
          reactor.turn();
          holds(probe.notified == Bits{interest_write});
        }) == 0);
}

TEST_CASE("in a forked child a watcher is lost whose number is closed, or stands for what cannot be watched",
          "[linux]") {
  OpenReactor reactor;
  Pair pair = make_pair();
  const Fd regular_file = zloop::test::make_regular_file();
  const bool is_closed = GENERATE(false, true);
  Probe probe;
  probe.watch(reactor, pair.ours.get(), interest_read);

  CHECK(failed_in_a_fork([&](auto holds) {
          if (is_closed) {
            pair.ours.reset();
          } else {
            holds(::dup2(regular_file.get(), pair.ours.get()) == pair.ours.get());
          }
          holds(reactor.turn() == 0);
          holds(probe.watcher.lost());
          holds(probe.watcher.interest() == interest_none);
          holds(reactor.watched() == 0);
        }) == 0);
  CHECK_FALSE(probe.watcher.lost());
}

TEST_CASE("a watcher that a forked child detaches can be attached to another reactor there") {
  OpenReactor reactor;
  const Pair pair = make_pair();
  Probe probe;
  probe.watch(reactor, pair.ours.get(), interest_read);

  CHECK(failed_in_a_fork([&](auto holds) {
          probe.watcher.detach();
          Reactor other;
          holds(other.open() == 0);
          holds(probe.attach(other, pair.ours.get()) == 0);
          holds(probe.watcher.set_interest(interest_read) == 0);
          put(pair.theirs.get(), "x");
          holds(other.wait(0) == 1);
          other.dispatch();
          holds(probe.notified == Bits{interest_read});
        }) == 0);
}

TEST_CASE("a forked child goes on with a watcher of the number 0") {
  OpenReactor reactor;
  const zloop::test::NumberZero free;
  const Pair pair = make_pair();
  REQUIRE(pair.ours.get() == 0);
  Probe probe;
  probe.watch(reactor, 0, interest_read);

  CHECK(failed_in_a_fork([&](auto holds) {
          put(pair.theirs.get(), "x");
          holds(reactor.turn() == 1);
          holds(probe.notified == Bits{interest_read});
        }) == 0);
}

}  // namespace
