// Every call of the kernel that a reactor, a stream, a datagram socket and a listener make fails, or does less than it
// was asked for, in each way that it has. Whatever that is: what the engine believes to be watched is what the poller
// watches, nothing is told that cannot be, what a fault did not break goes on, no byte is lost, doubled or out of
// order, and no descriptor stays open.
#include <fcntl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstddef>
#include <deque>
#include <memory>
#include <ranges>
#include <set>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

#include "support/catch.hpp"
#include "support/connection.hpp"
#include "support/faults.hpp"
#include "support/interposer.hpp"
#include "support/piece.hpp"
#include "support/probe.hpp"
#include "support/signals.hpp"
#include "support/sockets.hpp"
#include "zloop/datagram.hpp"
#include "zloop/listener.hpp"
#include "zloop/reactor.hpp"
#include "zloop/stream.hpp"
#include "zloop/sys.hpp"
#include "zloop/wakeup.hpp"

namespace {

using zloop::Datagram;
using zloop::DatagramOps;
using zloop::interest_none;
using zloop::interest_once;
using zloop::interest_read;
using zloop::interest_write;
using zloop::Listener;
using zloop::ListenerOps;
using zloop::Loan;
using zloop::Reactor;
using zloop::ReceivedDatagram;
using zloop::Route;
using zloop::Stream;
using zloop::Wakeup;
using zloop::test::Belief;
using zloop::test::Connection;
using zloop::test::Fd;
using zloop::test::Injection;
using zloop::test::injections;
using zloop::test::Interposer;
using zloop::test::make_pair;
using zloop::test::make_pipe;
using zloop::test::Pair;
using zloop::test::pattern;
using zloop::test::Piece;
using zloop::test::Pipe;
using zloop::test::poller_mismatch;
using zloop::test::Probe;
using zloop::test::put;
using zloop::test::sweep;
using zloop::test::take;

constexpr unsigned interest_both = interest_read | interest_write;
constexpr int patience = 4;  // faults come twice in a row at most
constexpr int turns_max = 200;
constexpr std::size_t few = 100;                               // bytes
constexpr std::size_t all_that_fits = std::size_t{16} * 1024;  // in a socket's or a pipe's buffer, see StreamScene

// What is ready at once. A wait may be disturbed.
void turn(Reactor& reactor) {
  const int count = reactor.wait(0);
  if (count < 0 && count != -EINTR) FAIL_CHECK("a wait() fails: " << -count);
  reactor.dispatch();
}

// Here and above, an assertion for each of so many looks would take most of the time.
void check_poller(const Reactor& reactor, const std::vector<Belief>& beliefs) {
  const std::string mismatch = poller_mismatch(reactor, beliefs);
  if (!mismatch.empty()) FAIL_CHECK(mismatch);
}

// ---- Reactor

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
    for (int i = 0; i < patience && !reactor.is_open(); ++i) {
      const int status = reactor.open();
      CHECK((status == 0 || status == -injected.fault.error));
      CHECK(reactor.is_open() == (status == 0));
    }
    REQUIRE(reactor.is_open());
  }

  void attach(Watched& one) {
    int status = -EEXIST;
    // Without an answer of the poller the number's last watcher stays.
    for (int i = 0; i < patience && status == -EEXIST; ++i) {
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
    for (int i = 0; i < patience; ++i) {
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
    for (int i = 0; i < patience && a.probe.watcher.interest() == (interest_both | interest_once); ++i) turn(reactor);
    // It has been told that it may write. To be told of reading, it had to be armed anew.
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
    for (int i = 0; i < patience && count == -EINTR; ++i) count = reactor.wait(0);
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
    b.probe.told.clear();
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
    for (int i = 0; i < 4 * patience && orphan >= 0; ++i) {
      turn(reactor);
      const auto entries = zloop::test::poller_entries(reactor.poller_fd());
      const auto of_number = std::ranges::count(entries, number, &zloop::test::PollerEntry::fd);
      if (of_number <= (next.probe.watcher.interest() == interest_none ? 0 : 1)) orphan = -1;
    }
    CHECK(orphan < 0);
    agrees();
  }

  // What is ready is told to all whom it is promised, and to nobody else.
  void tells_all() {
    std::vector<std::pair<Watched*, unsigned>> expected;
    for (Watched* one : {&a, &b, &c, &next}) {
      one->probe.told.clear();
      if (one->pair.ours.get() < 0) continue;
      put(one->pair.theirs.get(), "x");
      expected.emplace_back(one, one->probe.watcher.interest() & interest_both);
    }
    for (int i = 0; i < 2 * patience; ++i) turn(reactor);
    for (const auto& [one, interest] : expected) {
      unsigned told = interest_none;
      for (const unsigned bit : one->probe.told) told |= bit;
      // By a turn, too, it may show that a watcher is lost.
      if (!one->probe.watcher.lost()) CHECK(told == interest);
      CHECK((told & ~interest) == 0);
      if (one->probe.watcher.lost()) CHECK(may_be_lost(*one));
      take(one->pair.ours.get(), few);
    }
    agrees();
  }

  void agrees() const {
    std::vector<Belief> beliefs;
    for (const Watched* one : {&a, &b, &c, &next}) {
      const zloop::Watcher& watcher = one->probe.watcher;
      if (watcher.attached() && !watcher.lost()) {
        beliefs.push_back({.fd = watcher.fd(), .least = watcher.interest(), .most = watcher.interest()});
      }
    }
    if (orphan < 0) check_poller(reactor, beliefs);
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
    if (child == 0) ::_exit(run_child(injection));
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
    for (int i = 0; i < patience && status < 0; ++i) {
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
    for (int i = 0; i < patience; ++i) {
      if (reactor.wait(0) < 0) return 6;
      reactor.dispatch();
    }
    const bool all_told = std::ranges::all_of(
        watched, [](const Watched& one) { return one.probe.watcher.lost() == one.probe.told.empty(); });
    if (!all_told) return 7;
    reactor.close();
    return reactor.watched() == 0 ? 0 : 8;
  }

  // Whether it is watched for reading, if it is not lost, and that with good reason.
  static bool can_read(Watched& one, const Injection& injection) {
    zloop::Watcher& watcher = one.probe.watcher;
    one.probe.told.clear();
    int status = -1;
    for (int i = 0; i < patience && status < 0 && !watcher.lost(); ++i) status = watcher.set_interest(interest_read);
    return watcher.lost() ? injection.means_gone() || injection.fault.error == EPERM : status == 0;
  }

  [[nodiscard]] std::string mismatch() const {
    std::vector<Belief> beliefs;
    for (const Watched& one : watched) {
      const zloop::Watcher& watcher = one.probe.watcher;
      if (!watcher.lost()) {
        beliefs.push_back({.fd = watcher.fd(), .least = watcher.interest(), .most = watcher.interest()});
      }
    }
    return poller_mismatch(reactor, beliefs);
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
    for (int i = 0; i < patience && wakeup.fd() < 0; ++i) {
      const int status = wakeup.open();
      CHECK(status == (wakeup.fd() < 0 ? -injection.fault.error : 0));
    }
    REQUIRE(poller->add_edge_triggered(wakeup.fd(), 1) == 0);
    for (int i = 0; i < patience; ++i) {
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

// ---- Stream

std::vector<const zloop::test::FaultyCall*> with_poller(const zloop::test::FaultyCall& kind) {
  return {
      &kind,
      &zloop::test::faulty_poller_add,
      &zloop::test::faulty_poller_modify,
      &zloop::test::faulty_poller_wait,
  };
}

// What reading and writing scenes share: a stream that is closed at the first error that is told.
struct StreamScene {
  StreamScene(Pair ends, const zloop::StreamIo& io) : connection(std::move(ends), io) {
    // A buffer that is soon full, also of sockets.
    const int small = 4096;
    for (const Fd* end : {&connection.pair.ours, &connection.pair.theirs}) {
      ::setsockopt(end->get(), SOL_SOCKET, SO_SNDBUF, &small, sizeof(small));
      ::fcntl(end->get(), F_SETPIPE_SZ, small);
    }
  }

  void begin(Interposer& kernel, const Injection& injection) {
    injected = injection;
    if (connection.ops.io != &zloop::socket_io) kernel.pipes = {connection.pair.ours.get()};
  }

  // Takes note of what has happened, and judges it. False when it is over with the stream.
  bool goes_on() {
    Stream& stream = *connection.stream;
    if (stream.lost()) {
      CHECK(injected.means_gone());
      is_over = true;
    }
    for (const ssize_t result : std::exchange(connection.filled, {})) {
      if (result < 0 && result != -EAGAIN) connection.errors.push_back(static_cast<int>(-result));
      was_filled_with_nothing |= result == 0;
    }
    if (!connection.errors.empty()) {
      CHECK_FALSE(injected.is_harmless());
      CHECK(connection.errors.size() == 1);
      CHECK((connection.errors[0] == injected.fault.error || (injected.means_gone() && connection.errors[0] == EBADF)));
      is_over = true;
    }
    std::istringstream words(connection.log);
    for (std::string call; words >> call;) {
      if (!allowed.contains(call)) FAIL_CHECK(call << " is told");
    }
    told += std::exchange(connection.log, {});
    if (is_over) stream.close();
    agrees();
    return !is_over;
  }

  template <typename Condition>
  void turn_until(Condition condition) {
    for (int i = 0; i < turns_max && goes_on() && !condition(); ++i) turn(connection.reactor);
    if (!is_over) CHECK(condition());
  }

  void some_turns() {
    for (int i = 0; i < patience && goes_on(); ++i) turn(connection.reactor);
    goes_on();
  }

  // The outcome of what the owner asked for: again, unless it is over.
  template <typename Request>
  void insist(Request request) {
    int status = -1;
    for (int i = 0; i < patience && status < 0 && !is_over; ++i) {
      status = request();
      if (status < 0) CHECK_FALSE(injected.is_harmless());
      if (status < 0) CHECK((status == -injected.fault.error || (injected.means_gone() && status == -EBADF)));
      goes_on();
    }
    if (!is_over) CHECK(status >= 0);
  }

  void start_reading() {
    insist([&] {
      const int status = connection.stream->start_reading();
      CHECK(connection.stream->reading() == (status == 0));
      return status;
    });
  }

  void agrees() const {
    const Stream& stream = *connection.stream;
    std::vector<Belief> beliefs;
    if (stream.is_open() && !stream.lost()) {
      const unsigned writing = stream.blocked() ? interest_write : interest_none;
      beliefs.push_back({
          .fd = connection.pair.ours.get(),
          .least = writing | (stream.reading() ? interest_read : interest_none),
          .most = writing | interest_read,
      });
    }
    check_poller(connection.reactor, beliefs);
  }

  Injection injected;
  Connection connection;
  bool is_over = false;
  bool was_filled_with_nothing = false;  // the end, of reads into the owner's memory
  std::set<std::string> allowed;         // what may be told
  std::string told;                      // what was, each with a space after it
};

struct ReadingScene : StreamScene {
  ReadingScene(const zloop::StreamIo* io, bool is_buffered)
      : StreamScene(io == &zloop::socket_io ? make_pair() : pair_of(make_pipe()), *io), buffered(is_buffered) {}

  void run(Interposer& kernel, const Injection& injection) {
    begin(kernel, injection);
    allowed = buffered ? std::set<std::string>{"get_buffer", "filled"} : std::set<std::string>{"data", "end"};
    if (!buffered) allowed.insert("read_error");
    Stream& stream = *connection.stream;
    stream.set_buffered(buffered);
    give(20);
    start_reading();
    expect_all();
    for (int i = 0; i < 2; ++i) {
      stream.stop_reading();
      give(30);
      if (i == 0) {
        some_turns();
        CHECK(connection.received.size() < given.size());
      }
      start_reading();
      give(10);
      expect_all();
    }
    stream.stop_reading();
    start_reading();
    give(50);
    connection.pair.theirs.reset();
    expect_all();
    if (!is_over) {
      turn_until([&] { return buffered ? was_filled_with_nothing : told.ends_with("end "); });
      stream.stop_reading();
      some_turns();
    }
    stream.close();
    agrees();
    CHECK(given.starts_with(connection.received));
    if (!is_over) CHECK(connection.received == given);
  }

  static Pair pair_of(Pipe pipe) { return {.ours = std::move(pipe.read_end), .theirs = std::move(pipe.write_end)}; }

  void give(std::size_t size) {
    const std::string more = pattern(given.size() + size).substr(given.size());
    put(connection.pair.theirs.get(), more);
    given += more;
  }

  void expect_all() {
    turn_until([&] { return connection.received.size() == given.size(); });
  }

  bool buffered;
  std::string given;
};

TEST_CASE("a stream that reads loses nothing by a fault") {
  sweep<ReadingScene>(with_poller(zloop::test::faulty_receive), &zloop::socket_io, false);
  sweep<ReadingScene>(with_poller(zloop::test::faulty_receive), &zloop::pipe_io, false);
}

TEST_CASE("a stream that reads into its owner's memory loses nothing by a fault") {
  sweep<ReadingScene>(with_poller(zloop::test::faulty_receive), &zloop::socket_io, true);
  sweep<ReadingScene>(with_poller(zloop::test::faulty_receive), &zloop::pipe_io, true);
}

struct WritingScene : StreamScene {
  explicit WritingScene(const zloop::StreamIo* io)
      : StreamScene(io == &zloop::socket_io ? make_pair() : pair_of(make_pipe()), *io) {}

  void run(Interposer& kernel, const Injection& injection) {
    begin(kernel, injection);
    allowed = {"flushed", "room", "write_error", "end"};
    if (connection.ops.io == &zloop::socket_io) allowed.insert("read_error");
    start_reading();
    write(10);
    for (int i = 0; i < 2; ++i) {
      write(12'000);  // more than the kernel takes
      for (int j = 0; j < 3; ++j) write(700);
      expect_all();
    }
    write_at_once();
    for (int i = 0; i < 2; ++i) {
      queue(500);
      queue(12'000);
      flush();
      expect_all();
    }
    finish();
    connection.stream->close();
    agrees();
    CHECK(connection.all_released_once());
    if (connection.pair.theirs.get() >= 0) take_all();
    CHECK(offered.starts_with(taken));
    if (!is_over) CHECK(taken == offered);
  }

  static Pair pair_of(Pipe pipe) { return {.ours = std::move(pipe.write_end), .theirs = std::move(pipe.read_end)}; }

  std::string more(std::size_t size) {
    static const std::string all = pattern(std::size_t{1} << 17);
    REQUIRE(offered.size() + size <= all.size());
    const std::string bytes = all.substr(offered.size(), size);
    offered += bytes;
    return bytes;
  }

  void write(std::size_t size) {
    if (is_over) return;
    Piece& piece = connection.pieces.emplace_back(more(size));
    judge([&] {
      const int status = connection.stream->write(piece.segment());
      if (status != Stream::queued) Piece::release(&piece);
      return status;
    });
  }

  void queue(std::size_t size) {
    if (!is_over) connection.queue(more(size));
  }

  void flush() {
    if (!is_over) judge([&] { return connection.stream->flush(); });
  }

  // What has failed cannot be told from what was sent: it is over then.
  template <typename Request>
  void judge(Request request) {
    const int status = request();
    if (status < 0) {
      CHECK((status == -injected.fault.error || (injected.means_gone() && status == -EBADF)));
      CHECK_FALSE(injected.is_harmless());
      is_over = true;
    }
    goes_on();
  }

  // As the owner of bytes that nobody holds a reference to does.
  void write_at_once() {
    std::string bytes = more(12'000);
    std::size_t done = 0;
    for (int i = 0; i < turns_max && done < bytes.size() && !is_over; ++i) {
      const ssize_t sent = connection.stream->send_now(bytes.data() + done, bytes.size() - done);
      judge([&] { return static_cast<int>(sent < 0 ? sent : 0); });
      if (sent > 0) done += static_cast<std::size_t>(sent);
      if (is_over || done == bytes.size()) break;
      insist([&] { return connection.stream->wait_for_room(); });
      told.clear();
      take_all();
      turn_until([&] { return told.find("room ") != std::string::npos; });
    }
    if (!is_over) CHECK(done == bytes.size());
    take_all();
  }

  void expect_all() {
    turn_until([&] {
      take_all();
      return connection.stream->pending() == 0 && !connection.stream->blocked();
    });
    take_all();
    if (!is_over) CHECK(taken == offered);
  }

  void take_all() { taken += take(connection.pair.theirs.get(), all_that_fits); }

  // A socket is finished, and its peer sees that; of a pipe, the reader goes while bytes are queued.
  void finish() {
    if (is_over) return;
    if (connection.ops.io == &zloop::socket_io) {
      CHECK(zloop::sys::shutdown_write(connection.pair.ours.get()) == 0);
      CHECK(zloop::test::at_end(connection.pair.theirs.get()));
      connection.pair.theirs.reset();
      turn_until([&] { return told.find("end ") != std::string::npos; });
      return;
    }
    write(12'000);
    take_all();
    if (!is_over) CHECK(connection.stream->blocked());
    CHECK(offered.starts_with(taken));
    offered = taken;  // as far as it was seen
    connection.pair.theirs.reset();
    for (int i = 0; i < turns_max && !is_over && connection.log.find("end ") == std::string::npos; ++i) {
      turn(connection.reactor);
    }
    CHECK((is_over || connection.log.find("end ") != std::string::npos));
    connection.errors.clear();
    connection.stream->discard_pending();
    connection.stream->stop_reading();
    for (int i = 0; i < patience; ++i) turn(connection.reactor);
    agrees();
  }

  std::string offered;
  std::string taken;
};

TEST_CASE("a stream that writes loses nothing by a fault") {
  const zloop::test::IgnoredSigpipe ignored;
  sweep<WritingScene>(with_poller(zloop::test::faulty_send), &zloop::socket_io);
  sweep<WritingScene>(with_poller(zloop::test::faulty_send), &zloop::write_end_io);
}

// Both ways at once, and closed with bytes queued.
struct AbortScene : StreamScene {
  explicit AbortScene(bool from_inside) : StreamScene(make_pair(), zloop::socket_io), is_from_inside(from_inside) {}

  void run(Interposer& kernel, const Injection& injection) {
    begin(kernel, injection);
    allowed = {"data", "flushed", "write_error", "read_error"};
    start_reading();
    const std::string bytes = pattern(12'000);
    put(connection.pair.theirs.get(), "x");
    if (!is_over) {
      Piece& piece = connection.pieces.emplace_back(bytes);
      const int status = connection.stream->write(piece.segment());
      if (status != Stream::queued) Piece::release(&piece);
      if (status < 0) is_over = true;
      goes_on();
    }
    if (!is_over) connection.queue("more");
    if (is_from_inside) {
      connection.react = [&](const std::string&) { connection.stream->close(); };
      for (int i = 0; i < turns_max && connection.stream->is_open(); ++i) turn(connection.reactor);
    }
    connection.stream->close();
    agrees();
    CHECK(connection.all_released_once());
    CHECK(connection.stream->pending() == 0);
    const std::string before = connection.log;
    turn(connection.reactor);
    CHECK(connection.log == before);
    CHECK(bytes.starts_with(take(connection.pair.theirs.get(), all_that_fits)));
  }

  bool is_from_inside;
};

TEST_CASE("a stream that is closed with bytes queued keeps nothing, whatever fails") {
  std::vector<const zloop::test::FaultyCall*> kinds = with_poller(zloop::test::faulty_send);
  kinds.push_back(&zloop::test::faulty_poller_remove);
  sweep<AbortScene>(kinds, false);
  kinds.push_back(&zloop::test::faulty_receive);
  sweep<AbortScene>(kinds, true);
}

// ---- Datagram

using Texts = std::vector<std::string>;

// A datagram socket whose owner receives and sends as it is told, and writes down what came of it.
struct DatagramScene {
  explicit DatagramScene(Pair ends) : pair(std::move(ends)) {
    REQUIRE(reactor.open() == 0);
    REQUIRE(datagram.open(reactor, pair.ours.get(), 1000) == 0);
  }

  void start_reading() {
    insist([&] { return datagram.start_reading(); });
    CHECK(datagram.reading() == datagram.is_open());
  }

  // What cannot be is asked for again, unless the socket is lost.
  template <typename Request>
  void insist(Request request) {
    int status = -1;
    for (int i = 0; i < patience && status < 0 && goes_on(); ++i) {
      status = request();
      if (status < 0) CHECK_FALSE(injected.is_harmless());
      if (status < 0) CHECK((status == -injected.fault.error || (injected.means_gone() && status == -EBADF)));
    }
    if (goes_on()) CHECK(status >= 0);
  }

  // False when the socket is lost.
  bool goes_on() {
    if (datagram.lost()) {
      CHECK(injected.means_gone());
      datagram.close();
    }
    std::vector<Belief> beliefs;
    if (datagram.is_open()) {
      const unsigned interest =
          (datagram.reading() ? interest_read : interest_none) | (datagram.blocked() ? interest_write : interest_none);
      beliefs.push_back({.fd = pair.ours.get(), .least = interest, .most = interest});
    }
    check_poller(reactor, beliefs);
    return datagram.is_open();
  }

  template <typename Condition>
  void turn_until(Condition condition) {
    for (int i = 0; i < turns_max && goes_on() && !condition(); ++i) turn(reactor);
    if (goes_on()) CHECK(condition());
  }

  void give(int count) {
    for (int i = 0; i < count; ++i) put(pair.theirs.get(), given.emplace_back(next_text()));
  }

  std::string next_text() { return "datagram " + std::to_string(++texts_made); }

  Piece& piece_of(std::string text) { return pieces.emplace_back(std::move(text)); }

  // Sends at once where it can, else queues; `sent` is what will arrive.
  void send(Route route, const zloop::Address& address) {
    Piece& piece = piece_of(next_text());
    const int status =
        datagram.send_now(piece.bytes.data(), piece.bytes.size(), route == Route::address ? &address : nullptr);
    if (status == 0) sent.push_back(piece.bytes);
    if (status != -EAGAIN) {
      Piece::release(&piece);
      if (status < 0) CHECK((status == -injected.fault.error || status == -EBADF));
      return;
    }
    queue(piece, route, address);
  }

  void queue(Piece& piece, Route route, const zloop::Address& address) {
    bool has_taken = false;
    insist([&] {
      const std::size_t before = datagram.pending();
      const int status = datagram.queue({.segment = piece.segment(), .route = route, .address = address});
      has_taken = status == 0;
      CHECK(datagram.pending() == before + (has_taken ? 1 : 0));
      return status;
    });
    if (has_taken) {
      sent.push_back(piece.bytes);
    } else {
      Piece::release(&piece);
    }
  }

  void flush() {
    for (;;) {
      const std::size_t in_queue = datagram.pending();
      const int status = datagram.flush();
      if (status == 0) return;
      // The one that failed is gone, and no other.
      CHECK(status == -injected.fault.error);
      CHECK(datagram.pending() < in_queue);
      sent.erase(sent.end() - static_cast<std::ptrdiff_t>(datagram.pending()) - 1);
    }
  }

  void finish() {
    datagram.close();
    CHECK(std::ranges::all_of(pieces, [](const Piece& piece) { return piece.releases == 1; }));
    CHECK(datagram.pending() == 0);
    CHECK(datagram.pending_bytes() == 0);
    check_poller(reactor, {});
  }

  Injection injected;
  Reactor reactor;
  Pair pair;
  std::deque<Piece> pieces;
  Texts given;
  Texts received;
  Texts sent;  // that are to arrive
  std::vector<int> errors;
  Datagram datagram{ops, &Piece::release, this};

  static void on_readable(void* owner) noexcept {
    auto& self = *static_cast<DatagramScene*>(owner);
    std::array<ReceivedDatagram, Datagram::batch_max> batch;
    Loan loan;
    const int count = self.datagram.receive(batch.data(), loan);
    if (count < 0 && count != -EAGAIN) self.errors.push_back(-count);
    for (int i = 0; i < count; ++i) {
      const ReceivedDatagram& one = batch.at(static_cast<std::size_t>(i));
      self.received.emplace_back(one.data, one.size);
    }
  }

  static void on_writable(void* owner) noexcept { static_cast<DatagramScene*>(owner)->flush(); }

  static constexpr DatagramOps ops{
      .on_readable = &DatagramScene::on_readable,
      .on_writable = &DatagramScene::on_writable,
  };

  int texts_made = 0;
};

struct ReceivingScene : DatagramScene {
  ReceivingScene() : DatagramScene(make_pair(SOCK_DGRAM)) {}

  void run(Interposer& /*kernel*/, const Injection& injection) {
    injected = injection;
    start_reading();
    // More and more are asked for at once, then fewer.
    for (const int count : {1, 2, 4, 8, 8, 3, 1, 1}) {
      give(count);
      turn_until([&] { return received.size() == given.size(); });
      datagram.stop_reading();
      goes_on();
      start_reading();
    }
    // An error of receiving costs none of them.
    CHECK(received.size() <= given.size());
    CHECK(std::ranges::equal(received, given | std::views::take(received.size())));
    if (injected.is_harmless()) CHECK(errors.empty());
    CHECK(std::ranges::all_of(errors, [&](int error) { return error == injected.fault.error; }));
    finish();
  }
};

TEST_CASE("a datagram socket that receives loses nothing by a fault") {
  sweep<ReceivingScene>(with_poller(zloop::test::faulty_receive_datagram));
}

struct SendingScene : DatagramScene {
  explicit SendingScene(Route to) : DatagramScene(ends_for(to)), route(to) {
    if (to != Route::address) return;
    sockaddr_storage bound{};
    socklen_t size = 0;
    REQUIRE(zloop::sys::local_address(pair.theirs.get(), &bound, &size) == 0);
    address = zloop::Address(bound, size);
  }

  void run(Interposer& kernel, const Injection& injection) {
    injected = injection;
    const int more = route == Route::address ? 20 : 5;  // those to an address leave many at a time
    for (int i = 0; i < 3; ++i) send(route, address);
    take_all();
    for (int i = 0; i < 2; ++i) {
      // Until the kernel is full, and some more.
      kernel.send.errors = {0, 0, EAGAIN};
      for (int j = 0; j < 3; ++j) send(route, address);
      for (int j = 0; j < more && datagram.is_open(); ++j) queue(piece_of(next_text()), route, address);
      turn_until([&] {
        take_all();
        return datagram.pending() == 0;
      });
      if (datagram.is_open()) CHECK_FALSE(datagram.blocked());
    }
    take_all();
    if (datagram.is_open()) {
      CHECK(taken == sent);
    } else {
      CHECK(taken.size() <= sent.size());
      CHECK(std::ranges::equal(taken, sent | std::views::take(taken.size())));
    }
    if (datagram.is_open()) queue(piece_of(next_text()), route, address);
    datagram.discard_pending();
    goes_on();
    finish();
  }

  static Pair ends_for(Route to) {
    if (to == Route::peer) return make_pair(SOCK_DGRAM);
    Pair ends{
        .ours = zloop::test::make_socket(AF_INET, SOCK_DGRAM),
        .theirs = zloop::test::make_socket(AF_INET, SOCK_DGRAM),
    };
    zloop::Address any;
    any.parse("127.0.0.1", 0, AF_INET);
    REQUIRE(::bind(ends.theirs.get(), any.data(), any.size()) == 0);
    return ends;
  }

  void take_all() {
    for (std::string text = take(pair.theirs.get(), few); !text.empty(); text = take(pair.theirs.get(), few)) {
      taken.push_back(std::move(text));
    }
  }

  Route route;
  zloop::Address address;
  Texts taken;
};

TEST_CASE("a datagram socket that sends loses what a fault names, and nothing else") {
  sweep<SendingScene>(with_poller(zloop::test::faulty_send_datagram), Route::peer);
}

TEST_CASE("a datagram socket that sends to an address loses what a fault names, and nothing else", "[loopback]") {
  sweep<SendingScene>(with_poller(zloop::test::faulty_send_datagram), Route::address);
}

// ---- Listener

struct ListenerScene {
  ListenerScene() {
    const sockaddr family{.sa_family = AF_UNIX, .sa_data = {}};
    REQUIRE(::bind(listening.get(), &family, sizeof(family.sa_family)) == 0);  // the kernel finds a name
    REQUIRE(::listen(listening.get(), 100) == 0);
    REQUIRE(zloop::sys::local_address(listening.get(), &name, &name_size) == 0);
    REQUIRE(reactor.open() == 0);
    REQUIRE(listener.open(reactor, listening.get(), 3) == 0);
  }

  void run(Interposer& /*kernel*/, const Injection& injection) {
    injected = injection;
    start();
    for (const int count : {1, 4, 3}) {
      connect(count);
      for (int i = 0; i < turns_max && goes_on() && accepted.size() < clients.size(); ++i) {
        turn(reactor);
        if (is_paused) start();
      }
    }
    listener.pause();
    is_paused = true;
    goes_on();
    connect(1);
    for (int i = 0; i < patience; ++i) turn(reactor);
    const bool was_lost = !listener.is_open();
    if (!was_lost) CHECK(accepted.size() + 1 == clients.size());
    listener.close();
    check_poller(reactor, {});
    // Each connection once, in order: an error of accept(2) costs none.
    for (std::size_t i = 0; i < accepted.size(); ++i) CHECK(take(accepted[i].get(), few) == std::to_string(i));
  }

  void start() {
    for (int i = 0; i < patience; ++i) {
      if (!goes_on()) return;
      const int status = listener.start();
      is_paused = status < 0;
      if (status == 0) break;
      CHECK_FALSE(injected.is_harmless());
      CHECK((status == -injected.fault.error || status == -EBADF));
    }
    if (goes_on()) CHECK_FALSE(is_paused);
  }

  void connect(int count) {
    for (int i = 0; i < count; ++i) {
      const Fd& client = clients.emplace_back(zloop::test::make_socket(AF_UNIX, SOCK_STREAM));
      REQUIRE(::connect(client.get(), reinterpret_cast<const sockaddr*>(&name), name_size) == 0);
      put(client.get(), std::to_string(clients.size() - 1));
    }
  }

  bool goes_on() {
    if (listener.lost()) {
      CHECK(injected.means_gone());
      listener.close();
    }
    const unsigned interest = is_paused ? interest_none : interest_read;
    std::vector<Belief> beliefs;
    if (listener.is_open()) beliefs.push_back({.fd = listening.get(), .least = interest, .most = interest});
    check_poller(reactor, beliefs);
    return listener.is_open();
  }

  static void on_accept(void* owner, int fd, const sockaddr_storage& /*peer*/, socklen_t /*peer_size*/) noexcept {
    static_cast<ListenerScene*>(owner)->accepted.emplace_back(fd);
  }

  static void on_error(void* owner, int error) noexcept {
    auto& self = *static_cast<ListenerScene*>(owner);
    CHECK(error == self.injected.fault.error);
    CHECK_FALSE(self.injected.is_harmless());
    CHECK_FALSE(zloop::sys::failed_before_accept(error));
    self.is_paused |= Listener::out_of_resources(error);
  }

  static constexpr ListenerOps ops{.on_accept = &ListenerScene::on_accept, .on_error = &ListenerScene::on_error};

  Injection injected;
  Fd listening = zloop::test::make_socket(AF_UNIX, SOCK_STREAM);
  sockaddr_storage name{};
  socklen_t name_size = 0;
  Reactor reactor;
  Listener listener{ops, this};
  std::vector<Fd> clients;
  std::vector<Fd> accepted;
  bool is_paused = true;
};

TEST_CASE("a listener loses no connection by a fault") {
  sweep<ListenerScene>(with_poller(zloop::test::faulty_accept));
}

}  // namespace
