#include "zloop/wakeup.hpp"

#include <poll.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <cstdint>
#include <limits>
#include <mutex>
#include <numeric>
#include <stop_token>
#include <thread>
#include <utility>
#include <vector>

#include "support/catch.hpp"
#include "support/child.hpp"
#include "support/closes.hpp"
#include "support/sockets.hpp"
#include "zloop/fork_mark.hpp"
#include "zloop/sys.hpp"

namespace {

using zloop::Wakeup;

// How many writes there were since the last call, each of the number one: an eventfd adds them up, a pipe does not.
std::uint64_t writes_seen(const Wakeup& wakeup) {
  std::array<std::uint64_t, 512> read{};
  const ssize_t size = ::read(wakeup.fd(), read.data(), sizeof(read));
  if (size < 0) REQUIRE(errno == EAGAIN);
  return std::accumulate(read.begin(), read.end(), std::uint64_t{0});
}

TEST_CASE("a wake-up has a descriptor while it is open") {
  Wakeup wakeup;
  CHECK(wakeup.fd() == -1);
  REQUIRE(wakeup.open() == 0);
  CHECK(wakeup.fd() >= 0);
  wakeup.close();
  CHECK(wakeup.fd() == -1);
  wakeup.close();
  CHECK(wakeup.fd() == -1);
}

TEST_CASE("a notification of a wake-up that was closed writes nothing") {
  Wakeup wakeup;
  REQUIRE(wakeup.open() == 0);
  REQUIRE(wakeup.try_sleep());
  wakeup.close();
  CHECK_FALSE(wakeup.notify());
}

TEST_CASE("the child of a fork does not wake its parent") {
  zloop::ForkMark mark;
  mark.set();
  Wakeup wakeup;
  REQUIRE(wakeup.open(&mark) == 0);
  REQUIRE(wakeup.try_sleep());
  const pid_t child = ::fork();
  if (child == 0) zloop::test::end_child(wakeup.notify() ? 1 : 0);
  int status = -1;
  REQUIRE(::waitpid(child, &status, 0) == child);
  CHECK(status == 0);
  CHECK(writes_seen(wakeup) == 0);
  CHECK(wakeup.notify());
}

TEST_CASE("a wake-up whose descriptor has the number 0 is notified and closed, too") {
  const zloop::test::NumberZero free;
  Wakeup wakeup;
  REQUIRE(wakeup.open() == 0);
  REQUIRE(wakeup.fd() == 0);
  REQUIRE(wakeup.try_sleep());
  CHECK(wakeup.notify());
  wakeup.close();
  CHECK(zloop::sys::check_open(0) == -EBADF);
}

#ifdef __linux__
TEST_CASE("an eventfd, which is both ends, is closed once", "[linux]") {
  Wakeup wakeup;
  REQUIRE(wakeup.open() == 0);
  const int before = zloop::test::closes_of_nothing();
  wakeup.close();
  wakeup.close();
  CHECK(zloop::test::closes_of_nothing() == before);
}
#endif

TEST_CASE("opening reports that no descriptor is to be had") {
  const zloop::test::DescriptorLimit none(0);
  Wakeup wakeup;
  CHECK(wakeup.open() == -EMFILE);
  CHECK(wakeup.fd() == -1);
}

TEST_CASE("a loop that is awake is notified without a write, and does not go to sleep") {
  Wakeup wakeup;
  REQUIRE(wakeup.open() == 0);
  CHECK_FALSE(wakeup.notify());
  CHECK_FALSE(wakeup.notify());
  CHECK_FALSE(wakeup.try_sleep());
  CHECK_FALSE(wakeup.try_sleep());
  CHECK(writes_seen(wakeup) == 0);
}

TEST_CASE("a loop that sleeps is woken by one write") {
  Wakeup wakeup;
  REQUIRE(wakeup.open() == 0);
  REQUIRE(wakeup.try_sleep());
  CHECK(wakeup.notify());
  CHECK_FALSE(wakeup.notify());
  CHECK(writes_seen(wakeup) == 1);
}

TEST_CASE("a loop that woke up can sleep again") {
  Wakeup wakeup;
  REQUIRE(wakeup.open() == 0);
  for (int turn = 0; turn < 3; ++turn) {
    REQUIRE(wakeup.try_sleep());
    REQUIRE(wakeup.notify());
    wakeup.awake();
  }
  CHECK(writes_seen(wakeup) == 3);
}

TEST_CASE("a loop that was woken by something else leaves no write behind") {
  Wakeup wakeup;
  REQUIRE(wakeup.open() == 0);
  REQUIRE(wakeup.try_sleep());
  wakeup.awake();
  CHECK_FALSE(wakeup.notify());
  CHECK(writes_seen(wakeup) == 0);
}

TEST_CASE("a notification that finds no room makes some", "[linux]") {
  Wakeup wakeup;
  REQUIRE(wakeup.open() == 0);
  const std::uint64_t most = std::numeric_limits<std::uint64_t>::max() - 1;
  REQUIRE(::write(wakeup.fd(), &most, sizeof(most)) == sizeof(most));
  REQUIRE(wakeup.try_sleep());
  CHECK(wakeup.notify());
  CHECK(writes_seen(wakeup) == 1);
}

// Threads that post something, notify once, and wait until the loop has seen it: a lost notification would stop them
// all. Each goes on until it has found the loop asleep so many times. All is done under one lock, the loop's check too.
class Posters {
 public:
  static constexpr std::uint64_t count = 4;
  static constexpr std::uint64_t wakes_each = 300;

  explicit Posters(Wakeup& wakeup) : wakeup_(wakeup) {
    for (std::uint64_t i = 0; i < count; ++i) {
      threads_.emplace_back([this](const std::stop_token& stop) { run(stop); });
    }
  }

  // The loop's check of its queues; false when all threads have ended.
  bool check() {
    const std::scoped_lock lock(lock_);
    seen_ = posted_.load(std::memory_order_relaxed);
    return running_ > 0;
  }

  // How often the loop was found asleep; ends the threads.
  std::uint64_t wakes() {
    threads_.clear();
    return wakes_;
  }

 private:
  void run(const std::stop_token& stop) {
    for (std::uint64_t found_asleep = 0; found_asleep < wakes_each && !stop.stop_requested();) {
      const auto [mine, woke] = post();
      if (woke) ++found_asleep;
      while (seen_ < mine && !stop.stop_requested()) std::this_thread::yield();
    }
    const std::scoped_lock lock(lock_);
    --running_;
    notify();
  }

  std::pair<std::uint64_t, bool> post() {
    const std::scoped_lock lock(lock_);
    const std::uint64_t mine = posted_.fetch_add(1, std::memory_order_relaxed) + 1;
    return {mine, notify()};
  }

  bool notify() {
    const bool woke = wakeup_.notify();
    if (woke) ++wakes_;
    return woke;
  }

  Wakeup& wakeup_;
  std::mutex lock_;
  std::atomic<std::uint64_t> posted_{0};
  std::atomic<std::uint64_t> seen_{0};
  std::atomic<std::uint64_t> wakes_{0};
  std::atomic<std::uint64_t> running_{count};
  std::vector<std::jthread> threads_;
};

TEST_CASE("threads that notify while the loop goes to sleep: none is lost, none writes twice") {
  Wakeup wakeup;
  REQUIRE(wakeup.open() == 0);
  Posters posters(wakeup);
  std::uint64_t sleeps = 0;
  std::uint64_t writes = 0;
  while (posters.check()) {
    if (wakeup.try_sleep()) {
      ++sleeps;
      pollfd sleeping{.fd = wakeup.fd(), .events = POLLIN, .revents = 0};
      REQUIRE(::poll(&sleeping, 1, zloop::test::patience_ns / 1'000'000) == 1);  // 0: a notification was lost
      writes += writes_seen(wakeup);
    }
    wakeup.awake();
  }
  const std::uint64_t wakes = posters.wakes();
  writes += writes_seen(wakeup);
  CHECK(writes == wakes);
  CHECK(wakes >= Posters::count * Posters::wakes_each);
  CHECK(wakes <= sleeps);
}

}  // namespace
