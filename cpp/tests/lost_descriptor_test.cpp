// A descriptor's number is no identity: its file may be closed under a watcher, and another have the number.
#include <fcntl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <string>
#include <utility>
#include <vector>

#include "support/allocation.hpp"
#include "support/catch.hpp"
#include "support/child.hpp"
#include "support/connection.hpp"
#include "support/interposer.hpp"
#include "support/open_reactor.hpp"
#include "support/probe.hpp"
#include "support/sockets.hpp"
#include "zloop/datagram.hpp"
#include "zloop/listener.hpp"
#include "zloop/reactor.hpp"
#include "zloop/stream.hpp"

namespace {

using zloop::interest_none;
using zloop::interest_read;
using zloop::interest_write;
using zloop::Reactor;
using zloop::Watcher;
using zloop::WatcherOps;
using zloop::test::Connection;
using zloop::test::DescriptorLimit;
using zloop::test::Fd;
using zloop::test::Interposer;
using zloop::test::make_pair;
using zloop::test::make_pipe;
using zloop::test::OpenReactor;
using zloop::test::Pair;
using zloop::test::Pipe;
using zloop::test::Probe;
using zloop::test::put;

constexpr unsigned interest_both = interest_read | interest_write;

// A reactor, and a watcher of one end of a pair, whose number can be given to another file.
struct Scene {
  Scene() { REQUIRE(reactor.open() == 0); }

  int attach(Probe& probe) { return probe.attach_as_user(reactor, number); }

  // Ours goes, and the number is the other pair's from here on.
  void pass_number_on() const { REQUIRE(::dup2(other.ours.get(), number) == number); }

  int turn() {
    const int count = reactor.wait(0);
    REQUIRE(count >= 0);
    reactor.dispatch();
    return count;
  }

  Reactor reactor;
  Pair pair = make_pair();
  Pair other = make_pair();
  int number = pair.ours.get();
  Probe old;
  Probe next;
};

// How much the old watcher has to do with the poller.
void watch_somehow(Scene& scene) {
  REQUIRE(scene.attach(scene.old) == 0);
  Watcher& watcher = scene.old.watcher;
  SECTION("for reading") { REQUIRE(watcher.set_interest(interest_read) == 0); }
  SECTION("for both") { REQUIRE(watcher.set_interest(interest_both) == 0); }
  SECTION("silenced") {
    REQUIRE(watcher.set_interest(interest_read) == 0);
    watcher.drop_interest(interest_read);
  }
  SECTION("armed") { REQUIRE(scene.reactor.arm(watcher, interest_read) == 0); }
  SECTION("notified of what it was armed for") {
    REQUIRE(scene.reactor.arm(watcher, interest_write) == 0);
    scene.turn();
    REQUIRE(scene.old.notified == std::vector<unsigned>{interest_write});
  }
}

// Leaves the poller an entry without a watcher, whose file is ready, and returns the duplicate by which that file is
// open.
[[nodiscard]] Fd leave_ready_orphan(Scene& scene) {
  REQUIRE(scene.attach(scene.old) == 0);
  REQUIRE(scene.old.watcher.set_interest(interest_read) == 0);
  Fd duplicate(::dup(scene.number));
  scene.pass_number_on();
  put(scene.pair.theirs.get(), "x");
  scene.old.watcher.detach();
  return duplicate;
}

TEST_CASE("a watcher whose number stands for another file gives way to that file's") {
  const bool has_duplicate = GENERATE(false, true);
  Scene scene;
  watch_somehow(scene);
  const Fd duplicate(has_duplicate ? ::dup(scene.number) : -1);  // with one, the poller's entry lives on
  scene.pass_number_on();
  CHECK(scene.attach(scene.next) == 0);
  CHECK(scene.old.watcher.lost());
  CHECK_FALSE(scene.old.watcher.attached());
  CHECK_FALSE(scene.next.watcher.lost());
  scene.old.notified.clear();
  REQUIRE(scene.next.watcher.set_interest(interest_both) == 0);
  put(scene.other.theirs.get(), "x");
  scene.turn();
  CHECK(scene.next.notified == std::vector<unsigned>{interest_read, interest_write});
  CHECK(scene.old.notified.empty());
  // All that the old one's owner may still do is harmless.
  CHECK(scene.old.watcher.set_interest(interest_both) == -EBADF);
  scene.old.watcher.drop_interest(interest_both);
  scene.old.watcher.detach();
  CHECK(scene.next.watcher.interest() == interest_both);
}

TEST_CASE("a watcher whose number stands for its file does not give way") {
  Scene scene;
  watch_somehow(scene);
  const unsigned interest = scene.old.watcher.interest();
  CHECK(scene.attach(scene.next) == -EEXIST);
  CHECK(scene.reactor.user_of(scene.number) == &scene.old);
  CHECK_FALSE(scene.old.watcher.lost());
  CHECK(scene.old.watcher.interest() == interest);
  scene.old.notified.clear();
  REQUIRE(scene.old.watcher.set_interest(interest_both) == 0);
  put(scene.pair.theirs.get(), "x");
  scene.turn();
  CHECK(scene.old.notified == std::vector<unsigned>{interest_read, interest_write});
}

TEST_CASE("a watcher that the poller never knew is taken at its word") {
  Scene scene;
  REQUIRE(scene.attach(scene.old) == 0);
  scene.pass_number_on();
  CHECK(scene.attach(scene.next) == -EEXIST);
  CHECK(scene.old.watcher.attached());
}

TEST_CASE("a watcher that found its number closed when it was first interested gives way") {
  Scene scene;
  REQUIRE(scene.attach(scene.old) == 0);
  scene.pair.ours.reset();
  const bool is_armed = GENERATE(false, true);
  const int status =
      is_armed ? scene.reactor.arm(scene.old.watcher, interest_read) : scene.old.watcher.set_interest(interest_read);
  CHECK(status == -EBADF);
  CHECK(scene.old.watcher.lost());
  CHECK(scene.old.watcher.attached());
  REQUIRE(::dup2(scene.other.ours.get(), scene.number) == scene.number);
  const Fd number(scene.number);
  CHECK(scene.old.watcher.set_interest(interest_read) == -EBADF);
  CHECK(scene.reactor.user_of(scene.number) == nullptr);
  CHECK(scene.attach(scene.next) == 0);
  CHECK_FALSE(scene.old.watcher.attached());
  REQUIRE(scene.next.watcher.set_interest(interest_read) == 0);
  put(scene.other.theirs.get(), "x");
  scene.turn();
  CHECK(scene.next.notified == std::vector<unsigned>{interest_read});
}

TEST_CASE("a stream that found its descriptor closed when it was to read does not stand in the next one's way") {
  Connection stale;
  const int number = stale.pair.ours.release();
  ::close(number);
  CHECK(stale.stream->start_reading() == -EBADF);
  CHECK(stale.stream->lost());
  CHECK_FALSE(stale.stream->reading());
  const Pair pair = make_pair();
  const Fd reused(::dup2(pair.ours.get(), number));
  zloop::Stream next;
  CHECK(next.open(stale.reactor, reused.get(), stale.ops, &stale) == 0);
  CHECK_FALSE(stale.stream->is_open());
  REQUIRE(next.start_reading() == 0);
  next.close();
}

TEST_CASE("who had a number that stands for another file is not its user") {
  Scene scene;
  REQUIRE(scene.attach(scene.old) == 0);
  REQUIRE(scene.old.watcher.set_interest(interest_read) == 0);
  CHECK(scene.reactor.user_of(scene.number) == &scene.old);
  scene.pass_number_on();
  CHECK(scene.reactor.user_of(scene.number) == nullptr);
  CHECK(scene.old.watcher.lost());
  CHECK_FALSE(scene.old.watcher.attached());
}

TEST_CASE("who had a number that stands for a file that cannot be watched is not its user") {
  const bool is_asked_for = GENERATE(false, true);
  Scene scene;
  watch_somehow(scene);
  const Fd regular(::open("/proc/self/exe", O_RDONLY | O_CLOEXEC));
  REQUIRE(::dup2(regular.get(), scene.number) == scene.number);
  if (is_asked_for) {
    CHECK(scene.reactor.user_of(scene.number) == nullptr);
    CHECK_FALSE(scene.old.watcher.attached());
  } else {
    scene.old.watcher.detach();
  }
  CHECK(scene.old.watcher.lost());
}

// The number is a regular file's from here on.
void pass_to_regular_file(int number) {
  const Fd regular(::open("/proc/self/exe", O_RDONLY | O_CLOEXEC));
  REQUIRE(::dup2(regular.get(), number) == number);
}

TEST_CASE("a stream whose number is a regular file's when it first reads has lost it") {
  Connection connection;
  pass_to_regular_file(connection.pair.ours.get());
  CHECK(connection.stream->start_reading() == -EPERM);
  CHECK(connection.stream->lost());
  CHECK_FALSE(connection.stream->reading());
}

TEST_CASE("a stream of a device that cannot be watched has not lost it") {
  OpenReactor reactor;
  const Fd device(::open("/dev/null", O_RDWR | O_CLOEXEC));
  const zloop::StreamOps ops{.io = &zloop::pipe_io};
  zloop::Stream stream;
  REQUIRE(stream.open(reactor, device.get(), ops, nullptr) == 0);
  CHECK(stream.start_reading() == -EPERM);
  CHECK_FALSE(stream.lost());
}

TEST_CASE("a datagram socket whose number is a regular file's when it first reads has lost it") {
  OpenReactor reactor;
  const Pair pair = make_pair(SOCK_DGRAM);
  const zloop::DatagramOps ops;
  zloop::DatagramSocket datagram(ops, nullptr, nullptr);
  REQUIRE(datagram.open(reactor, pair.ours.get(), 1) == 0);
  pass_to_regular_file(pair.ours.get());
  CHECK(datagram.start_reading() == -EPERM);
  CHECK(datagram.lost());
}

TEST_CASE("a listener whose number is a regular file's when it first accepts has lost it") {
  OpenReactor reactor;
  const Pair pair = make_pair();
  const zloop::ListenerOps ops;
  zloop::Listener listener(ops, nullptr);
  REQUIRE(listener.open(reactor, pair.ours.get(), 1) == 0);
  pass_to_regular_file(pair.ours.get());
  CHECK(listener.start() == -EPERM);
  CHECK(listener.lost());
}

TEST_CASE("a watcher does not follow its number to another file") {
  Scene scene;
  watch_somehow(scene);
  scene.old.notified.clear();
  scene.pass_number_on();
  put(scene.other.theirs.get(), "x");
  CHECK(scene.old.watcher.set_interest(interest_both) == (scene.old.watcher.interest() == interest_both ? 0 : -EBADF));
  CHECK(scene.turn() == 0);
  CHECK(scene.old.notified.empty());
  scene.old.watcher.detach();
  CHECK(scene.old.watcher.lost());
}

TEST_CASE("a watcher that is renewed is its number's next file's") {
  Scene scene;
  REQUIRE(scene.attach(scene.old) == 0);
  REQUIRE(scene.old.watcher.set_interest(interest_read) == 0);
  scene.pass_number_on();
  put(scene.other.theirs.get(), "x");
  REQUIRE(scene.old.watcher.set_interest(interest_both) == -EBADF);
  scene.old.watcher.renew();
  CHECK_FALSE(scene.old.watcher.lost());
  REQUIRE(scene.old.watcher.set_interest(interest_both) == 0);
  scene.turn();
  CHECK(scene.old.notified == std::vector<unsigned>{interest_read, interest_write});
}

TEST_CASE("a watcher that is lost, and then armed, is its number's next file's") {
  Scene scene;
  REQUIRE(scene.attach(scene.old) == 0);
  REQUIRE(scene.old.watcher.set_interest(interest_read) == 0);
  scene.pass_number_on();
  put(scene.other.theirs.get(), "x");
  REQUIRE(scene.old.watcher.set_interest(interest_both) == -EBADF);
  REQUIRE(scene.old.watcher.lost());
  REQUIRE(scene.reactor.arm(scene.old.watcher, interest_read) == 0);
  CHECK_FALSE(scene.old.watcher.lost());
  scene.turn();
  CHECK(scene.old.notified == std::vector<unsigned>{interest_read});
}

TEST_CASE("a file that comes back under its number, kept by a duplicate, can be watched again", "[linux]") {
  Scene scene;
  REQUIRE(scene.attach(scene.old) == 0);
  REQUIRE(scene.old.watcher.set_interest(interest_read) == 0);
  const Fd saved(::dup(scene.number));
  scene.pass_number_on();
  REQUIRE(scene.attach(scene.next) == 0);
  scene.next.watcher.detach();
  REQUIRE(::dup2(saved.get(), scene.number) == scene.number);
  put(scene.pair.theirs.get(), "x");
  REQUIRE(scene.attach(scene.next) == 0);
  REQUIRE(scene.next.watcher.set_interest(interest_read) == 0);
  scene.turn();
  CHECK(scene.next.notified == std::vector<unsigned>{interest_read});
}

TEST_CASE("an entry that nobody can remove any more does not keep the loop awake", "[linux]") {
  Scene scene;
  REQUIRE(scene.attach(scene.old) == 0);
  REQUIRE(scene.old.watcher.set_interest(interest_read) == 0);
  const Fd duplicate(::dup(scene.number));
  scene.pass_number_on();
  put(scene.pair.theirs.get(), "x");  // of which the poller tells for as long as there is a duplicate
  const bool is_passed_on = GENERATE(false, true);
  if (is_passed_on) REQUIRE(scene.attach(scene.next) == 0);
  scene.old.watcher.detach();
  const Pair quiet = make_pair();
  const Pair armed = make_pair();
  Probe watching;
  Probe waiting;
  REQUIRE(watching.attach(scene.reactor, quiet.ours.get()) == 0);
  REQUIRE(watching.watcher.set_interest(interest_read) == 0);
  REQUIRE(waiting.attach(scene.reactor, armed.ours.get()) == 0);
  REQUIRE(scene.reactor.arm(waiting.watcher, interest_read) == 0);

  int wakes = 0;
  while (scene.turn() > 0) REQUIRE(++wakes < 4);
  CHECK(scene.old.notified.empty());
  CHECK(scene.next.notified.empty());
  // The others have come along, and the wake-up.
  put(quiet.theirs.get(), "x");
  put(armed.theirs.get(), "x");
  CHECK(scene.turn() == 2);
  CHECK(watching.notified == std::vector<unsigned>{interest_read});
  CHECK(waiting.notified == std::vector<unsigned>{interest_read});
  watching.watcher.drop_interest(interest_read);
  scene.turn();
  CHECK(scene.reactor.wait(1'000'000) == 0);
}

TEST_CASE("an event that was fetched with an orphaned entry's is not armed for again in the poller's successor",
          "[linux]") {
  Scene scene;
  const Fd duplicate = leave_ready_orphan(scene);
  const Pair armed = make_pair();
  Probe waiting;
  REQUIRE(waiting.attach(scene.reactor, armed.ours.get()) == 0);
  REQUIRE(scene.reactor.arm(waiting.watcher, interest_read) == 0);
  REQUIRE(scene.turn() == 1);
  put(armed.theirs.get(), "x");
  REQUIRE(scene.turn() == 2);  // the second time that the orphan is reported: another poller takes over
  CHECK(waiting.notified == std::vector<unsigned>{interest_read});
  CHECK(scene.turn() == 0);  // although there is more to read
  REQUIRE(scene.reactor.arm(waiting.watcher, interest_read) == 0);
  CHECK(scene.turn() == 1);
}

TEST_CASE("without a descriptor for another poller the loop goes on, if awake", "[linux]") {
  Scene scene;
  const Fd duplicate = leave_ready_orphan(scene);
  REQUIRE(scene.attach(scene.next) == 0);
  REQUIRE(scene.next.watcher.set_interest(interest_read) == 0);
  {
    const DescriptorLimit limit(0);
    for (int i = 0; i < 3; ++i) CHECK(scene.turn() == 1);
  }
  put(scene.other.theirs.get(), "x");
  CHECK(scene.turn() == 2);
  CHECK(scene.next.notified == std::vector<unsigned>{interest_read});
  CHECK(scene.turn() == 1);
}

TEST_CASE("without memory for another poller the loop goes on, if awake", "[linux]") {
  Scene scene;
  const Fd duplicate = leave_ready_orphan(scene);
  for (int i = 0; i < 3; ++i) {
    const int count = zloop::test::with_allocations(0, [&] {
      const int events = scene.reactor.wait(0);
      scene.reactor.dispatch();
      return events;
    });
    CHECK(count == 1);
  }
  CHECK(scene.turn() == 1);
  CHECK(scene.turn() == 0);
}

TEST_CASE("a watcher that is lost when another poller is made is not watched there", "[linux]") {
  Scene scene;
  const Fd duplicate = leave_ready_orphan(scene);
  const Pair gone = make_pair();
  const Pair stranger = make_pair();
  Probe lost;
  REQUIRE(lost.attach(scene.reactor, gone.ours.get()) == 0);
  REQUIRE(lost.watcher.set_interest(interest_read) == 0);
  REQUIRE(::dup2(stranger.ours.get(), gone.ours.get()) == gone.ours.get());
  put(stranger.theirs.get(), "x");

  int wakes = 0;
  while (scene.turn() > 0) REQUIRE(++wakes < 4);
  CHECK(lost.watcher.lost());
  CHECK(lost.notified.empty());
}

TEST_CASE("to be interested in less never fails") {
  Scene scene;
  REQUIRE(scene.attach(scene.old) == 0);
  REQUIRE(scene.old.watcher.set_interest(interest_both) == 0);
  const int error = GENERATE(EBADF, ENOENT, ENOMEM, EPERM);
  const bool is_closed = GENERATE(false, true);
  put(scene.pair.theirs.get(), "x");
  if (is_closed) scene.pair.ours.reset();
  {
    Interposer kernel;
    kernel.poller_control.errors = {error};
    SECTION("by half") {
      CHECK(scene.old.watcher.set_interest(interest_read) == 0);
      const bool is_lost = is_closed || error != ENOMEM;
      CHECK(scene.old.watcher.interest() == (is_lost ? interest_none : interest_read));
      CHECK(scene.old.watcher.lost() == is_lost);
    }
    SECTION("all of it") {
      CHECK(scene.old.watcher.set_interest(interest_none) == 0);
      CHECK(scene.old.watcher.interest() == interest_none);
    }
    SECTION("by half, dropping it") {
      scene.old.watcher.drop_interest(interest_write);
      CHECK((scene.old.watcher.interest() & interest_write) == 0);
    }
    SECTION("all of it, dropping it") {
      scene.old.watcher.drop_interest(interest_both);
      CHECK(scene.old.watcher.interest() == interest_none);
    }
    SECTION("by half, arming") {
      CHECK(scene.reactor.arm(scene.old.watcher, interest_read) == 0);
      CHECK((scene.old.watcher.interest() & interest_write) == 0);
    }
  }
  const unsigned interest = scene.old.watcher.interest();
  for (int i = 0; i < 3; ++i) scene.turn();
  CHECK((scene.old.notified.empty() ? interest_none : scene.old.notified[0]) == (interest & interest_read));
}

TEST_CASE("an event is not lost with the entry that the poller refuses to change") {
  Scene scene;
  REQUIRE(scene.attach(scene.old) == 0);
  REQUIRE(scene.reactor.arm(scene.old.watcher, interest_both) == 0);
  Interposer kernel;
  SECTION("refreshed") {
    kernel.poller_control.errors = {ENOMEM};
    CHECK(scene.reactor.refresh(scene.old.watcher));
    scene.turn();
  }
  SECTION("armed anew for what was not reported") {
    REQUIRE(scene.reactor.wait(0) == 1);
    kernel.poller_control.errors = {ENOMEM};
    scene.reactor.dispatch();
  }
  SECTION("armed anew for what was not come to") {
    REQUIRE(scene.reactor.wait(0) == 1);
    kernel.poller_control.errors = {ENOMEM};
    scene.reactor.interrupt_dispatch();
    scene.turn();
  }
  CHECK(scene.old.notified == std::vector<unsigned>{interest_write});
  put(scene.pair.theirs.get(), "x");
  scene.turn();
  CHECK(scene.old.notified == std::vector<unsigned>{interest_write, interest_read});
  CHECK_FALSE(scene.old.watcher.lost());
}

TEST_CASE(
    "a write pipe whose descriptor is closed in the turn that would report its reader's end reports nothing more") {
  Pipe pipe = make_pipe();
  Connection connection(Pair{.ours = std::move(pipe.write_end), .theirs = std::move(pipe.read_end)},
                        zloop::write_end_io);
  REQUIRE(connection.stream->start_reading() == 0);
  connection.write(zloop::test::pattern(300'000));
  connection.turn();
  REQUIRE(connection.stream->blocked());
  connection.pair.theirs.reset();
  connection.react = [&](const std::string& call) {
    if (call != "end") return;
    connection.pair.ours.reset();
    connection.stream->discard_pending();
    connection.stream->stop_reading();
  };
  for (int i = 0; i < 3; ++i) connection.turn();
  CHECK(connection.log == "end ");
  CHECK_FALSE(connection.stream->blocked());
}

// A table of functions that sets none: each is called all the same.
struct EmptyTableScene {
  EmptyTableScene() { REQUIRE(reactor.open() == 0); }

  void turn() {
    REQUIRE(reactor.wait(0) > 0);
    reactor.dispatch();
  }

  Reactor reactor;
  Pair pair = make_pair();
};

TEST_CASE("what the table of a watcher does not set is called and does nothing") {
  EmptyTableScene scene;
  static constexpr WatcherOps none{};
  Watcher watcher;
  REQUIRE(scene.reactor.attach(watcher, scene.pair.ours.get(), none) == 0);
  REQUIRE(watcher.set_interest(interest_both) == 0);
  scene.turn();
  CHECK(scene.reactor.user_of(scene.pair.ours.get()) == nullptr);
}

TEST_CASE("what the table of a stream does not set is called and does nothing") {
  const bool buffered = GENERATE(false, true);
  EmptyTableScene scene;
  static constexpr zloop::StreamOps none{};
  zloop::Stream stream;
  REQUIRE(stream.open(scene.reactor, scene.pair.ours.get(), none, nullptr) == 0);
  put(scene.pair.theirs.get(), "x");
  stream.set_buffered(buffered);
  REQUIRE(stream.start_reading() == 0);
  REQUIRE(scene.reactor.wait(0) > 0);  // the first one after the wish to read
  REQUIRE(stream.wait_writable() == 0);
  scene.turn();
  Interposer kernel;
  for (const int error : {EAGAIN, EPIPE}) {
    kernel.send.errors = {EAGAIN, error};
    REQUIRE(stream.write({.data = "x", .size = 1, .reference = nullptr}) == zloop::Stream::queued);
    scene.turn();
    stream.discard_pending();
  }
  kernel.receive.errors = {ECONNRESET};
  put(scene.pair.theirs.get(), "x");
  scene.turn();
  REQUIRE(::shutdown(scene.pair.theirs.get(), SHUT_WR) == 0);
  for (int i = 0; i < 3; ++i) scene.turn();
  CHECK(stream.reading());
  stream.close();
}

TEST_CASE("a stream that is lent memory reports what was read into it to a table without a function for that") {
  EmptyTableScene scene;
  struct Owner {
    char memory[8] = {};
  } owner;
  static constexpr zloop::StreamOps lends{
      .get_buffer =
          [](void* of, char** data, std::size_t* size) {
            *data = static_cast<Owner*>(of)->memory;
            *size = sizeof(Owner::memory);
            return true;
          },
  };
  zloop::Stream stream;
  REQUIRE(stream.open(scene.reactor, scene.pair.ours.get(), lends, &owner) == 0);
  stream.set_buffered(true);
  REQUIRE(stream.start_reading() == 0);
  put(scene.pair.theirs.get(), "x");
  scene.turn();
  CHECK(owner.memory[0] == 'x');
  stream.close();
}

TEST_CASE("what the table of a datagram socket does not set is called and does nothing") {
  EmptyTableScene scene;
  static constexpr zloop::DatagramOps none{};
  zloop::DatagramSocket datagram(none, [](void*) {}, nullptr);
  REQUIRE(datagram.open(scene.reactor, scene.pair.ours.get(), 100) == 0);
  REQUIRE(datagram.start_reading() == 0);
  put(scene.pair.theirs.get(), "x");
  scene.turn();
  zloop::OutgoingDatagram outgoing;
  outgoing.segment = {.data = "x", .size = 1, .reference = nullptr};
  REQUIRE(datagram.queue(outgoing) == 0);
  scene.turn();
  CHECK(datagram.pending() == 1);
}

TEST_CASE("what the table of a listener does not set is called and does nothing") {
  EmptyTableScene scene;
  static constexpr zloop::ListenerOps none{};
  const Fd listening = zloop::test::make_socket(AF_INET, SOCK_STREAM);
  REQUIRE(::listen(listening.get(), 1) == 0);
  zloop::Listener listener(none, nullptr);
  REQUIRE(listener.open(scene.reactor, listening.get(), 1) == 0);
  REQUIRE(listener.start() == 0);
  sockaddr_storage address{};
  socklen_t size = 0;
  REQUIRE(zloop::sys::local_address(listening.get(), &address, &size) == 0);
  const Fd client = zloop::test::make_socket(AF_INET, SOCK_STREAM);
  REQUIRE(zloop::sys::connect(client.get(), reinterpret_cast<sockaddr*>(&address), size) <= 0);
  {
    Interposer kernel;
    kernel.accept.errors = {EPERM};
    scene.turn();
  }
  scene.turn();  // the connection is closed: the tests' main looks for descriptors left open
  CHECK(scene.reactor.wait(0) == 0);
}

TEST_CASE("a forked child that cannot have a poller of its own gets one when that is possible", "[native]") {
  Scene scene;
  REQUIRE(scene.attach(scene.old) == 0);
  REQUIRE(scene.old.watcher.set_interest(interest_both) == 0);
  const pid_t child = ::fork();
  REQUIRE(child >= 0);
  if (child == 0) {
    int step = 1;
    const auto holds = [&step](bool truth) {
      if (!truth) zloop::test::end_child(step);
      ++step;
    };
    {
      Interposer kernel;
      kernel.poller_control.errors = {ENOMEM, ENOSPC};
      holds(scene.reactor.wait(0) == -ENOMEM);
      holds(scene.next.watcher.set_interest(interest_both) == -EBADF);
      holds(scene.reactor.wait(0) == -ENOSPC);
      holds(scene.old.watcher.set_interest(interest_write) == 0);
      holds(scene.old.watcher.interest() == interest_write);
    }
    holds(scene.reactor.wait(0) == 1);
    scene.reactor.dispatch();
    holds(scene.old.notified == std::vector<unsigned>{interest_write});
    holds(!scene.reactor.is_lost(scene.old.watcher));
    zloop::test::end_child(0);
  }
  int status = -1;
  REQUIRE(::waitpid(child, &status, 0) == child);
  CHECK(status == 0);
  // The parent's entry is as it was.
  put(scene.pair.theirs.get(), "x");
  scene.turn();
  CHECK(scene.old.notified == std::vector<unsigned>{interest_read, interest_write});
}

}  // namespace
