// The contract of poller.hpp, for every backend there is.
#include "zloop/poller.hpp"

#include <sys/wait.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <set>
#include <thread>
#include <vector>

#include "support/allocation.hpp"
#include "support/catch.hpp"
#include "support/child.hpp"
#include "support/platform.hpp"
#include "support/signals.hpp"
#include "support/sockets.hpp"
#include "zloop/clock.hpp"

namespace {

using zloop::interest_none;
using zloop::interest_once;
using zloop::interest_read;
using zloop::interest_write;
using zloop::Poller;
using zloop::PollEvent;
using zloop::test::Fd;
using zloop::test::make_pair;
using zloop::test::Pair;
using zloop::test::patience_ns;
using zloop::test::PollerBackend;
using zloop::test::put;
using zloop::test::take;

constexpr unsigned interest_both = interest_read | interest_write;

// One open poller of each backend in turn.
std::unique_ptr<Poller> open_poller() {
  const std::vector<PollerBackend> backends = zloop::test::poller_backends();
  const PollerBackend& backend = backends.at(GENERATE_REF(range(std::size_t{0}, backends.size())));
  UNSCOPED_INFO("backend: " << backend.name);
  std::unique_ptr<Poller> poller = backend.make();
  REQUIRE(poller != nullptr);
  REQUIRE(poller->open() == 0);
  return poller;
}

// What is ready at once, or within the time given.
std::vector<PollEvent> ready(Poller& poller, std::int64_t timeout_ns = 0) {
  std::vector<PollEvent> events(64);
  const int count = poller.wait(events.data(), static_cast<int>(events.size()), timeout_ns);
  REQUIRE(count >= 0);
  events.resize(static_cast<std::size_t>(count));
  return events;
}

// What is ready for one descriptor, which must be the only one; interest_none for nothing.
unsigned only_ready(Poller& poller, std::uint64_t token) {
  const std::vector<PollEvent> events = ready(poller);
  if (events.empty()) return interest_none;
  REQUIRE(events.size() == 1);
  REQUIRE(events[0].token == token);
  return events[0].ready;
}

TEST_CASE("a poller has a descriptor while it is open") {
  const std::unique_ptr<Poller> poller = open_poller();
  CHECK(poller->fd() >= 0);
  poller->close();
  CHECK(poller->fd() == -1);
  poller->close();
  CHECK(poller->fd() == -1);
}

TEST_CASE("opening a poller reports that no descriptor is to be had") {
  const std::unique_ptr<Poller> poller = zloop::make_poller();
  const zloop::test::DescriptorLimit none(0);
  CHECK(poller->open() == -EMFILE);
  CHECK(poller->fd() == -1);
}

TEST_CASE("without memory there is no poller") {
  CHECK(zloop::test::with_allocations(0, [] { return zloop::make_poller(); }) == nullptr);
}

TEST_CASE("a poller without memory for a descriptor does not watch it, and can do so later") {
  const std::unique_ptr<Poller> poller = open_poller();
  const Pair pair = make_pair();
  const int fd = pair.ours.get();
  const int status = zloop::test::with_allocations(0, [&] { return poller->add(fd, interest_write, 7); });
  if (status == 0) return;  // the kernel's memory is enough
  CHECK(status == -ENOMEM);
  CHECK(only_ready(*poller, 7) == interest_none);
  CHECK(poller->remove(fd) == -ENOENT);
  REQUIRE(poller->add(fd, interest_write, 7) == 0);
  CHECK(only_ready(*poller, 7) == interest_write);
}

TEST_CASE("nothing watched is never ready") {
  const std::unique_ptr<Poller> poller = open_poller();
  CHECK(ready(*poller).empty());
}

TEST_CASE("a descriptor is ready for what it is watched for") {
  const std::unique_ptr<Poller> poller = open_poller();
  const Pair pair = make_pair();
  const int fd = pair.ours.get();
  REQUIRE(poller->add(fd, interest_read, 7) == 0);
  CHECK(only_ready(*poller, 7) == interest_none);
  put(pair.theirs.get(), "x");
  CHECK(only_ready(*poller, 7) == interest_read);
  REQUIRE(poller->modify(fd, interest_write, 7) == 0);
  CHECK(only_ready(*poller, 7) == interest_write);
  REQUIRE(poller->modify(fd, interest_both, 7) == 0);
  CHECK(only_ready(*poller, 7) == interest_both);
  take(fd);
  CHECK(only_ready(*poller, 7) == interest_write);
}

TEST_CASE("readiness is reported for as long as it lasts") {
  const std::unique_ptr<Poller> poller = open_poller();
  const Pair pair = make_pair();
  REQUIRE(poller->add(pair.ours.get(), interest_read, 7) == 0);
  put(pair.theirs.get(), "x");
  for (int i = 0; i < 3; ++i) CHECK(only_ready(*poller, 7) == interest_read);
  take(pair.ours.get());
  CHECK(only_ready(*poller, 7) == interest_none);
}

TEST_CASE("readiness that is watched for once is reported once, and again when asked for") {
  const std::unique_ptr<Poller> poller = open_poller();
  const Pair pair = make_pair();
  const int fd = pair.ours.get();
  const auto ask_again = [&](unsigned interest) {
    const int status = poller->modify(fd, interest, 7);
    return status == -ENOENT ? poller->add(fd, interest, 7) : status;
  };
  put(pair.theirs.get(), "x");
  REQUIRE(poller->add(fd, interest_read | interest_once, 7) == 0);
  for (int i = 0; i < 3; ++i) {
    CHECK(only_ready(*poller, 7) == interest_read);
    CHECK(only_ready(*poller, 7) == interest_none);
    REQUIRE(ask_again(interest_both | interest_once) == 0);
    CHECK(only_ready(*poller, 7) == interest_both);
    CHECK(only_ready(*poller, 7) == interest_none);
    REQUIRE(ask_again(interest_read | interest_once) == 0);
  }
  REQUIRE(ask_again(interest_once) == 0);
  CHECK(only_ready(*poller, 7) == interest_none);
  REQUIRE(ask_again(interest_read) == 0);
  for (int i = 0; i < 3; ++i) CHECK(only_ready(*poller, 7) == interest_read);
}

TEST_CASE("edge-triggered, each arrival is reported once") {
  const std::unique_ptr<Poller> poller = open_poller();
  const Pair pair = make_pair();
  REQUIRE(poller->add_edge_triggered(pair.ours.get(), 7) == 0);
  CHECK(only_ready(*poller, 7) == interest_none);
  for (int i = 0; i < 3; ++i) {
    put(pair.theirs.get(), "x");
    CHECK(only_ready(*poller, 7) == interest_read);
    CHECK(only_ready(*poller, 7) == interest_none);
  }
}

TEST_CASE("all 64 bits of a token come back, and a change of token takes effect") {
  const std::unique_ptr<Poller> poller = open_poller();
  const Pair pair = make_pair();
  REQUIRE(poller->add(pair.ours.get(), interest_write, 0xFEDC'BA98'7654'3210) == 0);
  CHECK(only_ready(*poller, 0xFEDC'BA98'7654'3210) == interest_write);
  REQUIRE(poller->modify(pair.ours.get(), interest_write, ~std::uint64_t{0}) == 0);
  CHECK(only_ready(*poller, ~std::uint64_t{0}) == interest_write);
}

TEST_CASE("what was removed is not reported, and can be added again") {
  const std::unique_ptr<Poller> poller = open_poller();
  const Pair pair = make_pair();
  REQUIRE(poller->add(pair.ours.get(), interest_write, 7) == 0);
  REQUIRE(poller->remove(pair.ours.get()) == 0);
  CHECK(only_ready(*poller, 7) == interest_none);
  REQUIRE(poller->add(pair.ours.get(), interest_write, 8) == 0);
  CHECK(only_ready(*poller, 8) == interest_write);
}

TEST_CASE("a hang-up is ready for all that is watched for") {
  const std::unique_ptr<Poller> poller = open_poller();
  Pair pair = make_pair();
  const unsigned interest = GENERATE(unsigned{interest_read}, unsigned{interest_write}, interest_both);
  REQUIRE(poller->add(pair.ours.get(), interest, 7) == 0);
  pair.theirs.reset();
  CHECK((only_ready(*poller, 7) & interest) == interest);
}

TEST_CASE("a descriptor that was closed is quiet, and can be removed") {
  const std::unique_ptr<Poller> poller = open_poller();
  Pair pair = make_pair();
  const int fd = pair.ours.get();
  put(pair.theirs.get(), "x");
  REQUIRE(poller->add(fd, interest_read, 7) == 0);
  pair.ours.reset();
  CHECK(only_ready(*poller, 7) == interest_none);
  CHECK(poller->modify(fd, interest_both, 7) == -EBADF);
  CHECK(poller->remove(fd) == -EBADF);
  const Pair next = make_pair();
  const Fd same_number(::dup2(next.ours.get(), fd));
  REQUIRE(poller->add(fd, interest_write, 8) == 0);
  CHECK(only_ready(*poller, 8) == interest_write);
}

TEST_CASE("a peer that only stops sending is ready for reading") {
  const std::unique_ptr<Poller> poller = open_poller();
  const Pair pair = make_pair();
  REQUIRE(poller->add(pair.ours.get(), interest_read, 7) == 0);
  REQUIRE(::shutdown(pair.theirs.get(), SHUT_WR) == 0);
  CHECK(only_ready(*poller, 7) == interest_read);
}

TEST_CASE("a call that fails changes nothing") {
  const std::unique_ptr<Poller> poller = open_poller();
  const Pair pair = make_pair();
  const int fd = pair.ours.get();
  CHECK(poller->modify(fd, interest_write, 7) == -ENOENT);
  CHECK(poller->remove(fd) == -ENOENT);
  CHECK(only_ready(*poller, 7) == interest_none);
  REQUIRE(poller->add(fd, interest_write, 7) == 0);
  CHECK(poller->add(fd, interest_both, 8) == -EEXIST);
  CHECK(poller->add_edge_triggered(fd, 8) == -EEXIST);
  CHECK(only_ready(*poller, 7) == interest_write);
}

TEST_CASE("a descriptor that cannot be watched is refused") {
  const std::unique_ptr<Poller> poller = open_poller();
  CHECK(poller->add(-1, interest_read, 7) == -EBADF);
  CHECK(poller->modify(-1, interest_read, 7) == -EBADF);
  CHECK(poller->remove(-1) == -EBADF);
  CHECK(poller->add_edge_triggered(-1, 7) == -EBADF);
}

TEST_CASE("a regular file is refused by epoll", "[linux]") {
  const std::unique_ptr<Poller> poller = zloop::make_poller();
  REQUIRE(poller->open() == 0);
  const Fd regular_file = zloop::test::make_regular_file();
  CHECK(poller->add(regular_file.get(), interest_read, 7) == -EPERM);
}

TEST_CASE("no more events are stored than there is room for, and the others come later") {
  constexpr std::size_t watched = 600;  // more than a backend fetches at once
  const int capacity = GENERATE(1, 7, 1000);
  const std::unique_ptr<Poller> poller = open_poller();
  const Pair pair = make_pair();
  put(pair.theirs.get(), "x");
  std::vector<Fd> duplicates;
  for (std::size_t i = 0; i < watched; ++i) {
    duplicates.emplace_back(::dup(pair.ours.get()));
    REQUIRE(poller->add(duplicates.back().get(), interest_read, i) == 0);
  }
  std::set<std::uint64_t> seen;
  std::vector<PollEvent> events(static_cast<std::size_t>(capacity) + 1,
                                PollEvent{.token = watched, .ready = interest_none});
  for (std::size_t waits = 0; waits < watched && seen.size() < watched; ++waits) {
    const int count = poller->wait(events.data(), capacity, 0);
    REQUIRE(count > 0);
    REQUIRE(count <= capacity);
    for (int i = 0; i < count; ++i) seen.insert(events[static_cast<std::size_t>(i)].token);
  }
  CHECK(seen.size() == watched);
  CHECK(*seen.rbegin() == watched - 1);
  CHECK(events.back().token == watched);  // behind the capacity
}

TEST_CASE("a wait lasts no less than its time-out") {
  const std::unique_ptr<Poller> poller = open_poller();
  const std::int64_t timeout_ns = GENERATE(0, 1, 999, 1'000'000, 1'500'001, 12'345'678);
  const std::int64_t before = zloop::monotonic_ns();
  CHECK(ready(*poller, timeout_ns).empty());
  CHECK(zloop::monotonic_ns() - before >= timeout_ns);
}

TEST_CASE("a wait ends when something becomes ready") {
  const std::unique_ptr<Poller> poller = open_poller();
  const Pair pair = make_pair();
  REQUIRE(poller->add(pair.ours.get(), interest_read, 7) == 0);
  const std::int64_t timeout_ns = GENERATE(std::int64_t{-1}, patience_ns, std::numeric_limits<std::int64_t>::max());
  const std::int64_t before = zloop::monotonic_ns();
  const std::jthread writer([fd = pair.theirs.get()] { [[maybe_unused]] const ssize_t count = ::write(fd, "x", 1); });
  CHECK(ready(*poller, timeout_ns).size() == 1);
  CHECK(zloop::monotonic_ns() - before < patience_ns);
}

TEST_CASE("a signal interrupts a wait") {
  const std::unique_ptr<Poller> poller = open_poller();
  const std::int64_t timeout_ns = GENERATE(std::int64_t{-1}, patience_ns);
  PollEvent event{};
  const zloop::test::SignalStorm storm;
  CHECK(poller->wait(&event, 1, timeout_ns) == -EINTR);
}

TEST_CASE("closing in a forked child leaves the parent's registrations as they are") {
  const bool inherited = GENERATE(false, true);
  const std::unique_ptr<Poller> poller = open_poller();
  const Pair pair = make_pair();
  REQUIRE(poller->add(pair.ours.get(), interest_read, 7) == 0);
  const pid_t child = ::fork();
  REQUIRE(child >= 0);
  if (child == 0) {
    inherited ? poller->close_inherited() : poller->close();
    zloop::test::end_child(poller->fd() == -1 ? 0 : 1);
  }
  int status = -1;
  REQUIRE(::waitpid(child, &status, 0) == child);
  CHECK(status == 0);
  put(pair.theirs.get(), "x");
  CHECK(only_ready(*poller, 7) == interest_read);
}

}  // namespace
