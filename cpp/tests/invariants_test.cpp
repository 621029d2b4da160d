// What a debug build checks by itself, and that each invariant can be found violated.
#include "zloop/invariants.hpp"

#include <algorithm>
#include <cstddef>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "support/allocation.hpp"
#include "support/catch.hpp"
#include "support/child.hpp"
#include "support/open_reactor.hpp"
#include "support/probe.hpp"
#include "support/sockets.hpp"
#include "zloop/listener.hpp"
#include "zloop/poller.hpp"
#include "zloop/reactor.hpp"
#include "zloop/stream.hpp"

#ifdef __linux__
#include <sys/epoll.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <cstdint>

#include "zloop/poller_entries.hpp"
#endif

namespace {

#ifdef ZLOOP_INVARIANTS

// What no correct engine does, the tests do to its private parts: an explicit instantiation may name them.
template <typename Name, auto Member>
struct Opened {
  friend constexpr auto member_of(Name) { return Member; }  // NOLINT(readability-named-parameter): a tag
};

struct Alive {
  friend constexpr auto member_of(Alive tag);
};
template struct Opened<Alive, &zloop::Watcher::alive_>;

struct Number {
  friend constexpr auto member_of(Number tag);
};
template struct Opened<Number, &zloop::Watcher::fd_>;

struct Ops {
  friend constexpr auto member_of(Ops tag);
};
template struct Opened<Ops, &zloop::Watcher::ops_>;

struct Home {
  friend constexpr auto member_of(Home tag);
};
template struct Opened<Home, &zloop::Watcher::reactor_>;

struct HasEntry {
  friend constexpr auto member_of(HasEntry tag);
};
template struct Opened<HasEntry, &zloop::Watcher::has_entry_>;

struct Lost {
  friend constexpr auto member_of(Lost tag);
};
template struct Opened<Lost, &zloop::Watcher::lost_>;

struct Watched {
  friend constexpr auto member_of(Watched tag);
};
template struct Opened<Watched, &zloop::Reactor::watched_>;

using zloop::interest_read;
using zloop::interest_write;
using zloop::violated_invariant;
using zloop::test::make_pair;
using zloop::test::OpenReactor;
using zloop::test::Pair;
using zloop::test::Probe;
using zloop::test::put;

long count_of(std::string_view name) {
  for (std::size_t index = 0;; ++index) {
    const auto [each, count] = zloop::live_count(index);
    REQUIRE(each != nullptr);
    if (each == name) return count;
  }
}

TEST_CASE("the objects that exist are counted") {
  const long streams = count_of("Stream");
  const long listeners = count_of("Listener");
  {
    const zloop::Stream stream;
    const zloop::ListenerOps ops;
    const zloop::Listener listener(ops, nullptr);
    CHECK(count_of("Stream") == streams + 1);
    CHECK(count_of("Listener") == listeners + 1);
  }
  CHECK(count_of("Stream") == streams);
  CHECK(count_of("Listener") == listeners);
}

TEST_CASE("no invariant is violated by what watchers do") {
  OpenReactor reactor;
  const Pair pair = make_pair();
  Probe probe;
  REQUIRE(probe.attach(reactor, pair.ours.get()) == 0);
  CHECK(violated_invariant(reactor).empty());
  REQUIRE(reactor.set_interest(probe.watcher, interest_read | interest_write) == 0);
  CHECK(violated_invariant(reactor).empty());
  reactor.disarm(probe.watcher);
  CHECK(violated_invariant(reactor).empty());
  REQUIRE(reactor.arm(probe.watcher, interest_read) == 0);
  CHECK(violated_invariant(reactor).empty());
  put(pair.theirs.get(), "x");
  reactor.turn();
  CHECK(violated_invariant(reactor).empty());
  reactor.detach(probe.watcher);
  CHECK(violated_invariant(reactor).empty());
}

// What is said of the invariants while a private member of `object` has another value.
template <typename Name, typename Object, typename Value>
std::string violated_with(const zloop::Reactor& reactor, Object& object, Value value) {
  auto& member = object.*member_of(Name{});
  const auto before = std::exchange(member, value);
  std::string violated = violated_invariant(reactor);
  member = before;
  return violated;
}

TEST_CASE("a table that contradicts itself is found") {
  OpenReactor reactor;
  const Pair pair = make_pair();
  Probe probe;
  probe.watch(reactor, pair.ours.get(), interest_read);
  zloop::Watcher& watcher = probe.watcher;
  CHECK_THAT(violated_with<Alive>(reactor, watcher, 0U), Catch::Contains("was destroyed"));
  CHECK_THAT(violated_with<Home>(reactor, watcher, nullptr), Catch::Contains("belongs to another reactor"));
  CHECK_THAT(violated_with<Number>(reactor, watcher, watcher.fd() + 1), Catch::Contains("another number"));
  CHECK_THAT(violated_with<Ops>(reactor, watcher, nullptr), Catch::Contains("no operations"));
  CHECK_THAT(violated_with<HasEntry>(reactor, watcher, false), Catch::Contains("no entry in the poller"));
  CHECK_THAT(violated_with<Lost>(reactor, watcher, true), Catch::Contains("is lost"));
  CHECK_THAT(violated_with<Watched>(reactor, static_cast<zloop::Reactor&>(reactor), std::size_t{7}),
             Catch::Contains("1 watchers have an interest, and 7 are counted"));
  CHECK(violated_invariant(reactor).empty());
}

#ifdef __linux__

struct Watching {
  Watching() { probe.watch(reactor, pair.ours.get(), interest_read); }

  [[nodiscard]] int fd() const { return pair.ours.get(); }

  // Changes the kernel's entry without the reactor's knowledge.
  void control(int operation, int descriptor, std::uint32_t events, std::uint64_t token) const {
    epoll_event event{};
    event.events = events;
    event.data.u64 = token;
    REQUIRE(::epoll_ctl(reactor.poller_fd(), operation, descriptor, &event) == 0);
  }

  Pair pair = make_pair();
  OpenReactor reactor;
  Probe probe;
};

TEST_CASE("an interest that the poller does not know is found", "[linux]") {
  const Watching watching;
  watching.control(EPOLL_CTL_DEL, watching.fd(), 0, 0);
  CHECK_THAT(violated_invariant(watching.reactor), Catch::Contains("the poller does not watch it"));
}

TEST_CASE("another interest of the poller is found", "[linux]") {
  const Watching watching;
  const auto entries = [&] {
    std::vector<zloop::PollerEntry> read;
    REQUIRE(zloop::read_poller_entries(watching.reactor.poller_fd(), read));
    return read;
  }();
  const auto entry = std::ranges::find(entries, watching.fd(), &zloop::PollerEntry::fd);
  REQUIRE(entry != entries.end());
  watching.control(EPOLL_CTL_MOD, watching.fd(), EPOLLIN | EPOLLOUT, entry->token);
  CHECK_THAT(violated_invariant(watching.reactor), Catch::Contains("something else"));
}

TEST_CASE("events that no watcher will get are found", "[linux]") {
  constexpr std::uint64_t stale = std::uint64_t{0x1234} << 32;
  const Watching watching;
  SECTION("of a watcher's descriptor") {
    watching.control(EPOLL_CTL_MOD, watching.fd(), EPOLLIN, stale | static_cast<std::uint32_t>(watching.fd()));
    CHECK_THAT(violated_invariant(watching.reactor), Catch::Contains("are dropped"));
  }
  SECTION("of a descriptor without a watcher") {
    const int other = watching.pair.theirs.get();
    watching.control(EPOLL_CTL_ADD, other, EPOLLIN, stale | static_cast<std::uint32_t>(other));
    CHECK_THAT(violated_invariant(watching.reactor), Catch::Contains("are dropped"));
  }
}

TEST_CASE("a descriptor that other code has closed violates no invariant", "[linux]") {
  Watching watching;
  const Pair other = make_pair();
  SECTION("closed") {
    watching.pair.ours.reset();
    CHECK(violated_invariant(watching.reactor).empty());
  }
  SECTION("another file under its number") {
    REQUIRE(::dup2(other.ours.get(), watching.fd()) == watching.fd());
    CHECK(violated_invariant(watching.reactor).empty());
  }
}

TEST_CASE("in a forked child an interest is one in the file that the number stands for there", "[linux][native]") {
  const Pair other = make_pair();
  Watching watching;
  const pid_t child = ::fork();
  REQUIRE(child >= 0);
  if (child == 0) {
    const bool replaced = ::dup2(other.ours.get(), watching.fd()) == watching.fd();
    const bool idle = watching.reactor.turn() == 0;
    const bool holds = violated_invariant(watching.reactor).empty();
    watching.control(EPOLL_CTL_DEL, watching.fd(), 0, 0);
    const bool found = violated_invariant(watching.reactor).find("the poller does not watch it") != std::string::npos;
    zloop::test::end_child(replaced && idle && holds && found ? 0 : 1);
  }
  int status = -1;
  REQUIRE(::waitpid(child, &status, 0) == child);
  CHECK(status == 0);
}

TEST_CASE("a violated invariant ends the process in the next turn", "[linux][native]") {
  const pid_t child = ::fork();
  REQUIRE(child >= 0);
  if (child == 0) {
    static_cast<void>(::signal(SIGABRT, [](int /*number*/) { zloop::test::keep_coverage(); }));
    Watching watching;  // of the child: an inherited reactor is not checked
    watching.control(EPOLL_CTL_DEL, watching.fd(), 0, 0);
    watching.reactor.turn();
    zloop::test::end_child(0);
  }
  int status = 0;
  REQUIRE(::waitpid(child, &status, 0) == child);
  CHECK(WIFSIGNALED(status));
  CHECK(WTERMSIG(status) == SIGABRT);
}

TEST_CASE("a turn without memory checks no invariant", "[linux][native]") {
  const pid_t child = ::fork();
  REQUIRE(child >= 0);
  if (child == 0) {
    static_cast<void>(::signal(SIGABRT, SIG_DFL));
    Watching watching;
    watching.control(EPOLL_CTL_DEL, watching.fd(), 0, 0);
    zloop::test::end_child(zloop::test::with_allocations(0, [&] { return watching.reactor.wait(0); }));
  }
  int status = -1;
  REQUIRE(::waitpid(child, &status, 0) == child);
  CHECK(status == 0);
}

#endif

#else

TEST_CASE("a release counts no objects") { CHECK(zloop::live_count(0).name == nullptr); }

#endif

}  // namespace
