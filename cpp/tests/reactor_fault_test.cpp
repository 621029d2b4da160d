// Every system call of a reactor and of a wake-up fails in each way that it has: what the reactor takes to be watched
// is what the poller watches, and what the fault did not break goes on.
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstddef>
#include <memory>
#include <ranges>
#include <string>
#include <utility>
#include <vector>

#include "support/catch.hpp"
#include "support/child.hpp"
#include "support/fault_scene.hpp"
#include "support/faults.hpp"
#include "support/interposer.hpp"
#include "support/probe.hpp"
#include "support/sockets.hpp"
#include "zloop/reactor.hpp"
#include "zloop/wakeup.hpp"

namespace {

using zloop::interest_none;
using zloop::interest_once;
using zloop::interest_read;
using zloop::interest_write;
using zloop::Reactor;
using zloop::Wakeup;
using zloop::test::attempts_max;
using zloop::test::check_poller;
using zloop::test::Expectation;
using zloop::test::Fd;
using zloop::test::Injection;
using zloop::test::injections;
using zloop::test::Interposer;
using zloop::test::make_pair;
using zloop::test::Pair;
using zloop::test::poller_mismatch;
using zloop::test::Probe;
using zloop::test::put;
using zloop::test::sweep;
using zloop::test::take;
using zloop::test::turn;

constexpr unsigned interest_both = interest_read | interest_write;
constexpr std::size_t few = 100;  // bytes

// A reactor and some watchers, of which each step asks something else, then looks at all that it has led to.
struct ReactorScene {
  void run(Interposer& /*kernel*/, const Injection& injection) {
    injected = injection;
    open();
    for (Watched* one : {&a, &b, &c}) attach(*one);
    set_interest(a, interest_read);
    set_interest(b, interest_both);
    set_interest(c, interest_write);
    tells_all();
    take_less();
    arm_again();
    ask();
    use_number_again();
    leave_orphan();
    tells_all();
    reactor.close();
    for (const Watched* one : {&a, &b, &c, &next}) CHECK_FALSE(one->probe.watcher.attached());
    CHECK(reactor.watched() == 0);
  }

  struct Watched {
    Pair pair = make_pair();
    Probe probe;
    bool may_be_lost = false;
  };

  // In another poller, what was watched before and cannot be any more is another file.
  [[nodiscard]] bool may_be_lost(const Watched& one) const {
    return injected.means_gone() || one.may_be_lost || (injected.fault.error == EPERM && duplicate.get() >= 0);
  }

  void open() {
    for (int i = 0; i < attempts_max && !reactor.is_open(); ++i) {
      const int status = reactor.open();
      CHECK((status == 0 || status == -injected.fault.error));
      CHECK(reactor.is_open() == (status == 0));
    }
    REQUIRE(reactor.is_open());
  }

  void attach(Watched& one) {
    int status = -EEXIST;
    // Without an answer of the poller the number's last watcher stays.
    for (int i = 0; i < attempts_max && status == -EEXIST; ++i) {
      status = one.probe.attach_as_user(reactor, one.pair.ours.get());
      CHECK((status == 0 || injected.fault.error == ENOMEM));
    }
    CHECK(status == 0);
    CHECK_FALSE(one.probe.watcher.lost());
    agrees();
  }

  // Asks for something by `request`, again where a fault is in the way, and looks whether the outcome is as promised.
  template <typename Request>
  void ask_for(Watched& one, unsigned interest, Request request) {
    const zloop::Watcher& watcher = one.probe.watcher;
    for (int i = 0; i < attempts_max; ++i) {
      const bool was_lost = watcher.lost();
      const unsigned before = watcher.interest();
      const int status = request();
      if (!was_lost && watcher.lost()) CHECK(may_be_lost(one));
      if (injected.is_harmless() && !one.may_be_lost) CHECK(status == 0);
      if (status < 0) CHECK((status == -EBADF || status == -injected.fault.error));
      if (watcher.lost()) {
        CHECK(watcher.interest() == interest_none);
      } else {
        CHECK(watcher.interest() == (status == 0 ? interest : before));
      }
      agrees();
      if (status == 0 || watcher.lost()) return;
    }
    FAIL_CHECK("it fails again and again");
  }

  void set_interest(Watched& one, unsigned interest) {
    ask_for(one, interest, [&] { return reactor.set_interest(one.probe.watcher, interest); });
  }
  void arm(Watched& one, unsigned interest) {
    ask_for(one, interest | interest_once, [&] { return reactor.arm(one.probe.watcher, interest); });
  }
  void drop_interest(Watched& one, unsigned interest) {
    const unsigned left = one.probe.watcher.interest() & ~interest;
    ask_for(one, left == interest_once ? unsigned{interest_none} : left, [&] {
      reactor.drop_interest(one.probe.watcher, interest);
      return 0;
    });
  }

  void take_less() {
    set_interest(b, interest_read);
    set_interest(b, interest_both);
    drop_interest(b, interest_write);
    drop_interest(b, interest_read);
    turn(reactor);
    agrees();
    set_interest(b, interest_both);
    set_interest(c, interest_none);
    set_interest(c, interest_both);
    tells_all();
  }

  void arm_again() {
    arm(a, interest_read);  // less than there was
    arm(a, interest_both);  // more
    tells_all();
    arm(a, interest_read);
    drop_interest(a, interest_read);
    arm(a, interest_both);
    for (int i = 0; i < attempts_max && a.probe.watcher.interest() == (interest_both | interest_once); ++i) {
      turn(reactor);
    }
    // It has been notified that it may write. To be notified of reading, it had to be armed anew.
    agrees();
    if (!a.probe.watcher.lost()) CHECK((a.probe.watcher.interest() & interest_both) == interest_read);
    tells_all();
    arm(a, interest_both);
    CHECK(interruptible_wait() >= 0);
    reactor.interrupt_dispatch();
    agrees();
    tells_all();
    arm(a, interest_both);
    put(a.pair.theirs.get(), "x");
    a.probe.react = [&] { reactor.drop_interest(a.probe.watcher, interest_write); };
    turn(reactor);
    a.probe.react = nullptr;
    agrees();
    arm(a, interest_read);
  }

  int interruptible_wait() {
    int count = -EINTR;
    for (int i = 0; i < attempts_max && count == -EINTR; ++i) count = reactor.wait(0);
    return count;
  }

  void ask() {
    for (Watched* one : {&a, &b, &c}) {
      const bool is_lost = !reactor.refresh(one->probe.watcher);
      CHECK(is_lost == one->probe.watcher.lost());
      if (is_lost) CHECK(injected.means_gone());
      agrees();
      tells_all();
      if (one == &a) arm(a, interest_read);
      const void* user = reactor.user_of(one->pair.ours.get());
      CHECK((user == &one->probe) == one->probe.watcher.attached());
      agrees();
    }
  }

  void use_number_again() {
    reactor.detach(b.probe.watcher);
    agrees();
    b.probe.notified.clear();
    attach(b);
    set_interest(b, interest_both);
    tells_all();
  }

  // The number of c is another file's, but a duplicate keeps c's in the poller, where it is ready for ever.
  void leave_orphan() {
    duplicate.reset(::dup(c.pair.ours.get()));
    REQUIRE(duplicate.get() >= 0);
    c.may_be_lost = true;
    put(c.pair.theirs.get(), "x");
    const int number = c.pair.ours.get();
    REQUIRE(::dup2(next.pair.ours.get(), number) == number);
    orphan = number;
    next.pair.ours = std::move(c.pair.ours);
    attach(next);
    CHECK_FALSE(c.probe.watcher.attached());
    set_interest(next, interest_both);
    // Another poller has no such entry. If it cannot be had, the next turn tries again.
    for (int i = 0; i < 4 * attempts_max && orphan >= 0; ++i) {
      turn(reactor);
      const auto entries = zloop::test::poller_entries(reactor.poller_fd());
      const auto of_number = std::ranges::count(entries, number, &zloop::PollerEntry::fd);
      if (of_number <= (next.probe.watcher.interest() == interest_none ? 0 : 1)) orphan = -1;
    }
    CHECK(orphan < 0);
    agrees();
  }

  // Whoever armed for it is notified of readiness, and nobody else.
  void tells_all() {
    std::vector<std::pair<Watched*, unsigned>> expected;
    for (Watched* one : {&a, &b, &c, &next}) {
      one->probe.notified.clear();
      if (one->pair.ours.get() < 0) continue;
      put(one->pair.theirs.get(), "x");
      expected.emplace_back(one, one->probe.watcher.interest() & interest_both);
    }
    for (int i = 0; i < 2 * attempts_max; ++i) turn(reactor);
    for (const auto& [one, interest] : expected) {
      unsigned notified = interest_none;
      for (const unsigned bit : one->probe.notified) notified |= bit;
      // By a turn, too, it may show that a watcher is lost.
      if (!one->probe.watcher.lost()) CHECK(notified == interest);
      CHECK((notified & ~interest) == 0);
      if (one->probe.watcher.lost()) CHECK(may_be_lost(*one));
      take(one->pair.ours.get(), few);
    }
    agrees();
  }

  void agrees() const {
    std::vector<Expectation> expectations;
    for (const Watched* one : {&a, &b, &c, &next}) {
      const zloop::Watcher& watcher = one->probe.watcher;
      if (watcher.attached() && !watcher.lost()) {
        expectations.push_back({.fd = watcher.fd(), .least = watcher.interest(), .most = watcher.interest()});
      }
    }
    if (orphan < 0) check_poller(reactor, expectations);
  }

  Injection injected;
  Reactor reactor;
  Watched a;
  Watched b;
  Watched c;
  Watched next;
  Fd duplicate;
  int orphan = -1;  // the number of an entry of nobody's
};

TEST_CASE("a reactor outlives every fault of its poller") {
  sweep<ReactorScene>({
      &zloop::test::faulty_poller_open,
      &zloop::test::faulty_wakeup_open,
      &zloop::test::faulty_poller_add,
      &zloop::test::faulty_poller_modify,
      &zloop::test::faulty_poller_remove,
      &zloop::test::faulty_poller_wait,
  });
}

// The child of a fork makes a poller and a wake-up of its own, and lists there what is watched.
struct ForkScene {
  ForkScene() {
    REQUIRE(reactor.open() == 0);
    for (Watched& one : watched) REQUIRE(one.probe.attach(reactor, one.pair.ours.get()) == 0);
    REQUIRE(watched[0].probe.watcher.set_interest(interest_read) == 0);
    REQUIRE(watched[1].probe.watcher.set_interest(interest_both) == 0);
    REQUIRE(watched[2].probe.watcher.set_interest(interest_read) == 0);
    watched[2].probe.watcher.drop_interest(interest_read);
    REQUIRE(reactor.arm(watched[3].probe.watcher, interest_write) == 0);
  }

  void run(const Injection& injection) {
    const pid_t child = ::fork();
    REQUIRE(child >= 0);
    if (child == 0) zloop::test::end_child(run_child(injection));
    int status = -1;
    REQUIRE(::waitpid(child, &status, 0) == child);
    CHECK(status == 0);
    CHECK(mismatch().empty());
  }

  struct Watched {
    Pair pair = make_pair();
    Probe probe;
  };

  // Zero, or which of its expectations is not met.
  int run_child(const Injection& injection) {
    Interposer kernel;
    (kernel.*injection.call->call).fault = injection.fault;
    int status = -1;
    for (int i = 0; i < attempts_max && status < 0; ++i) {
      status = reactor.wait(0);
      if (status < 0 && (status != -injection.fault.error || reactor.poller_fd() >= 0)) return 1;
    }
    if (status < 0) return 2;
    reactor.dispatch();
    if (!mismatch().empty()) return 3;
    for (Watched& one : watched) {
      if (!can_read(one, injection)) return 4;
      put(one.pair.theirs.get(), "x");
    }
    if (!mismatch().empty()) return 5;
    for (int i = 0; i < attempts_max; ++i) {
      if (reactor.wait(0) < 0) return 6;
      reactor.dispatch();
    }
    const bool all_notified = std::ranges::all_of(
        watched, [](const Watched& one) { return one.probe.watcher.lost() == one.probe.notified.empty(); });
    if (!all_notified) return 7;
    reactor.close();
    return reactor.watched() == 0 ? 0 : 8;
  }

  // Whether it is watched for reading, if it is not lost, and that with good reason.
  static bool can_read(Watched& one, const Injection& injection) {
    zloop::Watcher& watcher = one.probe.watcher;
    one.probe.notified.clear();
    int status = -1;
    for (int i = 0; i < attempts_max && status < 0 && !watcher.lost(); ++i) {
      status = watcher.set_interest(interest_read);
    }
    return watcher.lost() ? injection.means_gone() || injection.fault.error == EPERM : status == 0;
  }

  [[nodiscard]] std::string mismatch() const {
    std::vector<Expectation> expectations;
    for (const Watched& one : watched) {
      const zloop::Watcher& watcher = one.probe.watcher;
      if (!watcher.lost()) {
        expectations.push_back({.fd = watcher.fd(), .least = watcher.interest(), .most = watcher.interest()});
      }
    }
    return poller_mismatch(reactor, expectations);
  }

  Reactor reactor;
  std::array<Watched, 5> watched;
};

TEST_CASE("a forked child outlives every fault of the poller that it makes, and its parent feels none", "[native]") {
  const std::vector<std::pair<const zloop::test::FaultyCall*, int>> kinds = {
      {&zloop::test::faulty_poller_open, 1},
      {&zloop::test::faulty_wakeup_open, 1},
      {&zloop::test::faulty_poller_add, 5},
  };
  for (const auto& [kind, calls] : kinds) {
    for (const Injection& injection : injections(*kind, calls)) {
      INFO(injection.describe());
      ForkScene().run(injection);
    }
  }
}

// Somebody wakes a loop that sleeps.
struct WakeupScene {
  WakeupScene() { REQUIRE(poller->open() == 0); }

  void run(Interposer& /*kernel*/, const Injection& injection) {
    for (int i = 0; i < attempts_max && wakeup.fd() < 0; ++i) {
      const int status = wakeup.open();
      CHECK(status == (wakeup.fd() < 0 ? -injection.fault.error : 0));
    }
    REQUIRE(poller->add_edge_triggered(wakeup.fd(), 1) == 0);
    for (int i = 0; i < attempts_max; ++i) {
      CHECK(wakeup.try_sleep());
      CHECK(wakeup.notify());
      CHECK_FALSE(wakeup.notify());
      zloop::PollEvent event{};
      CHECK(poller->wait(&event, 1, 0) == 1);
      wakeup.awake();
    }
    wakeup.close();
  }

  std::unique_ptr<zloop::Poller> poller = zloop::make_poller();
  Wakeup wakeup;
};

TEST_CASE("a notification is not lost by a fault") {
  sweep<WakeupScene>({&zloop::test::faulty_wakeup_open, &zloop::test::faulty_wakeup_write});
}

}  // namespace
