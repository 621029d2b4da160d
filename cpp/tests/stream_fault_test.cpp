// Every system call of a stream fails, or does less than it was asked for, in each way that it has: no byte is lost,
// doubled or out of order.
#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <cstddef>
#include <set>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

#include "support/catch.hpp"
#include "support/connection.hpp"
#include "support/fault_scene.hpp"
#include "support/faults.hpp"
#include "support/interposer.hpp"
#include "support/piece.hpp"
#include "support/signals.hpp"
#include "support/sockets.hpp"
#include "zloop/stream.hpp"
#include "zloop/sys.hpp"

namespace {

using zloop::interest_none;
using zloop::interest_read;
using zloop::interest_write;
using zloop::Stream;
using zloop::test::attempts_max;
using zloop::test::check_poller;
using zloop::test::Connection;
using zloop::test::Expectation;
using zloop::test::Fd;
using zloop::test::Injection;
using zloop::test::Interposer;
using zloop::test::make_pair;
using zloop::test::make_pipe;
using zloop::test::Pair;
using zloop::test::pattern;
using zloop::test::Piece;
using zloop::test::Pipe;
using zloop::test::put;
using zloop::test::sweep;
using zloop::test::take;
using zloop::test::turn;
using zloop::test::turns_max;
using zloop::test::with_poller;

constexpr std::size_t all_that_fits = std::size_t{16} * 1024;  // in a socket's or a pipe's buffer, see StreamScene

// What reading and writing scenes share: a stream that is closed at the first error that is reported.
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

  // Records what has happened, and checks it. False when it is over with the stream.
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
      if (!allowed.contains(call)) FAIL_CHECK(call << " is reported");
    }
    reported += std::exchange(connection.log, {});
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
    for (int i = 0; i < attempts_max && goes_on(); ++i) turn(connection.reactor);
    goes_on();
  }

  // The outcome of what the owner asked for: again, unless it is over.
  template <typename Request>
  void insist(Request request) {
    int status = -1;
    for (int i = 0; i < attempts_max && status < 0 && !is_over; ++i) {
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
    std::vector<Expectation> expectations;
    if (stream.is_open() && !stream.lost()) {
      const unsigned writing = stream.blocked() ? interest_write : interest_none;
      expectations.push_back({
          .fd = connection.pair.ours.get(),
          .least = writing | (stream.reading() ? interest_read : interest_none),
          .most = writing | interest_read,
      });
    }
    check_poller(connection.reactor, expectations);
  }

  Injection injected;
  Connection connection;
  bool is_over = false;
  bool was_filled_with_nothing = false;  // the end, of reads into the owner's memory
  std::set<std::string> allowed;         // what may be reported
  std::string reported;                  // what was reported, each with a space after it
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
      turn_until([&] { return buffered ? was_filled_with_nothing : reported.ends_with("end "); });
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
    allowed = {"flushed", "writable", "write_error", "end"};
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
    check_status([&] {
      const int status = connection.stream->write(piece.segment());
      if (status != Stream::queued) Piece::release(&piece);
      return status;
    });
  }

  void queue(std::size_t size) {
    if (!is_over) connection.queue(more(size));
  }

  void flush() {
    if (!is_over) check_status([&] { return connection.stream->flush(); });
  }

  // What has failed cannot be distinguished from what was sent: it is over then.
  template <typename Request>
  void check_status(Request request) {
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
      check_status([&] { return static_cast<int>(sent < 0 ? sent : 0); });
      if (sent > 0) done += static_cast<std::size_t>(sent);
      if (is_over || done == bytes.size()) break;
      insist([&] { return connection.stream->wait_writable(); });
      reported.clear();
      take_all();
      turn_until([&] { return reported.find("writable ") != std::string::npos; });
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
      turn_until([&] { return reported.find("end ") != std::string::npos; });
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
    for (int i = 0; i < attempts_max; ++i) turn(connection.reactor);
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

}  // namespace
