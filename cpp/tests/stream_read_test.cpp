// Stream: reading, opening and closing.
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <optional>

#include "support/allocation.hpp"
#include "support/catch.hpp"
#include "support/connection.hpp"
#include "support/interposer.hpp"
#include "support/sockets.hpp"

namespace {

using zloop::Reactor;
using zloop::Stream;
using zloop::test::Connection;
using zloop::test::Interposer;
using zloop::test::make_pair;
using zloop::test::Pair;
using zloop::test::pattern;
using zloop::test::Piece;
using zloop::test::put;
using zloop::test::take;

// A connection that reads, from a peer that has sent something.
struct ReadingConnection : Connection {
  explicit ReadingConnection(std::string_view sent = "hello") {
    REQUIRE(stream->start_reading() == 0);
    if (!sent.empty()) put(pair.theirs.get(), sent);
  }
};

TEST_CASE("a stream reads nothing until start_reading()") {
  Connection connection;
  put(connection.pair.theirs.get(), "hello");
  CHECK(connection.stream->is_open());
  CHECK_FALSE(connection.stream->reading());
  connection.turn();
  CHECK(connection.log.empty());
  REQUIRE(connection.stream->start_reading() == 0);
  CHECK(connection.stream->reading());
  connection.turn();
  CHECK(connection.log == "data ");
  CHECK(connection.received == "hello");
}

TEST_CASE("reading can stop and start again") {
  ReadingConnection connection;
  connection.stream->stop_reading();
  CHECK_FALSE(connection.stream->reading());
  connection.turn();
  CHECK(connection.log.empty());
  REQUIRE(connection.stream->start_reading() == 0);
  connection.turn();
  CHECK(connection.received == "hello");
}

TEST_CASE("to start a stream that reads already is no error, and asks the poller for nothing") {
  const ReadingConnection connection;
  const Interposer kernel;
  CHECK(connection.stream->start_reading() == 0);
  CHECK(connection.stream->reading());
  CHECK(kernel.poller_control.count == 0);
}

TEST_CASE("the poller is not asked for reading that stops and starts with nothing to read between") {
  ReadingConnection connection("");
  const Interposer kernel;
  connection.stream->stop_reading();
  connection.turn();
  REQUIRE(connection.stream->start_reading() == 0);
  CHECK(kernel.poller_control.count == 0);
  put(connection.pair.theirs.get(), "hello");
  connection.turn();
  CHECK(connection.received == "hello");
}

TEST_CASE("a stream that does not read wakes the loop once at most") {
  ReadingConnection connection;
  connection.stream->stop_reading();
  connection.turn();
  put(connection.pair.theirs.get(), " and more");
  CHECK(connection.reactor.wait(0) == 0);
  CHECK(connection.reactor.watched() == 0);
  connection.reactor.dispatch();
  CHECK(connection.log.empty());
  REQUIRE(connection.stream->start_reading() == 0);
  connection.turn();
  CHECK(connection.received == "hello and more");
}

TEST_CASE("an event that is older than the wish to read waits for the next turn") {
  ReadingConnection connection;
  REQUIRE(connection.reactor.wait(0) == 1);
  connection.stream->stop_reading();
  REQUIRE(connection.stream->start_reading() == 0);
  connection.reactor.dispatch();
  CHECK(connection.log.empty());
  connection.turn();
  CHECK(connection.received == "hello");
}

TEST_CASE("a turn reads once, and the next turn what was left") {
  // More than the shared buffer holds; a socket that takes it all at once is not to be had, so it is sent in parts.
  ReadingConnection connection("");
  const std::string whole = pattern(3 * Reactor::read_buffer_size);
  std::size_t sent = 0;
  std::size_t turns = 0;
  while (connection.received.size() < whole.size()) {
    const ssize_t count = ::write(connection.pair.theirs.get(), whole.data() + sent, whole.size() - sent);
    if (count > 0) sent += static_cast<std::size_t>(count);
    const Interposer kernel;
    connection.turn();
    REQUIRE(kernel.receive.count == 1);
    ++turns;
    REQUIRE(turns < 1000);
  }
  CHECK(turns >= 3);
  CHECK((connection.received == whole));
}

TEST_CASE("what was read stays until the callback ends, whatever is read meanwhile") {
  // The inner reads are those of a loop that runs inside of a callback, and of who borrows the buffer by himself.
  ReadingConnection connection("the first");
  Pair other = make_pair();
  Stream inner;
  std::string inner_received;
  zloop::StreamOps ops;
  ops.release = [](void* /*reference*/) noexcept {};
  ops.on_data = [](void* owner, const char* data, std::size_t size) noexcept {
    static_cast<std::string*>(owner)->append(data, size);
  };
  REQUIRE(inner.open(connection.reactor, other.ours.get(), ops, &inner_received) == 0);
  REQUIRE(inner.start_reading() == 0);
  connection.before_data = [&] {
    put(other.theirs.get(), "something else");
    REQUIRE(connection.reactor.wait(0) > 0);
    connection.reactor.dispatch();
    const zloop::Loan loan(connection.reactor.read_buffer());
    std::memset(loan.data(), 'x', Reactor::read_buffer_size);
  };
  connection.turn();
  CHECK(inner_received == "something else");
  CHECK(connection.received == "the first");
}

TEST_CASE("the end of the stream is reported after its last bytes, each turn until reading stops") {
  ReadingConnection connection;
  connection.pair.theirs.reset();
  connection.turn();
  connection.turn();
  connection.turn();
  CHECK(connection.log == "data end end ");
  connection.stream->stop_reading();
  connection.turn();
  CHECK(connection.log == "data end end ");
}

TEST_CASE("a read that fails is reported with its errno") {
  ReadingConnection connection("");
  put(connection.pair.ours.get(), "never read");
  connection.pair.theirs.reset();  // with bytes unread: a reset
  connection.turn();
  CHECK(connection.log == "read_error ");
  CHECK(connection.errors == std::vector<int>{ECONNRESET});
}

TEST_CASE("readiness that leads to nothing is not reported") {
  ReadingConnection connection;
  REQUIRE(connection.reactor.wait(0) == 1);
  take(connection.pair.ours.get());  // somebody else has read it meanwhile
  connection.reactor.dispatch();
  CHECK(connection.log.empty());
  connection.stream->set_buffered(true);
  put(connection.pair.theirs.get(), "hello");
  REQUIRE(connection.reactor.wait(0) == 1);
  take(connection.pair.ours.get());
  connection.reactor.dispatch();
  CHECK(connection.filled == std::vector<ssize_t>{-EAGAIN});
}

TEST_CASE("a read that a signal interrupts is repeated") {
  ReadingConnection connection;
  Interposer kernel;
  kernel.receive.errors = {EINTR};
  connection.turn();
  CHECK(connection.log == "data ");
}

TEST_CASE("without memory for the shared buffer a read fails") {
  ReadingConnection connection;
  connection.log.reserve(64);
  connection.errors.reserve(1);
  REQUIRE(connection.reactor.wait(0) == 1);
  zloop::test::with_allocations(0, [&] { connection.reactor.dispatch(); });
  CHECK(connection.log == "read_error ");
  CHECK(connection.errors == std::vector<int>{ENOMEM});
}

TEST_CASE("a buffered read goes to the owner's memory, as much as fits") {
  ReadingConnection connection("0123456789abcdefXYZ");
  connection.stream->set_buffered(true);
  connection.turn();
  CHECK(connection.received == "0123456789abcdef");
  connection.turn();
  CHECK(connection.received == "0123456789abcdefXYZ");
  CHECK(connection.filled == std::vector<ssize_t>{16, 3});
  CHECK(connection.log == "get_buffer filled get_buffer filled ");
}

TEST_CASE("a buffered read that gets no memory is skipped") {
  ReadingConnection connection;
  connection.stream->set_buffered(true);
  connection.offers_buffer = false;
  connection.turn();
  CHECK(connection.log == "get_buffer ");
  connection.offers_buffer = true;
  connection.turn();
  CHECK(connection.received == "hello");
}

TEST_CASE("an owner that has no function for a buffer gets no buffered read") {
  Connection connection;
  connection.ops.get_buffer = zloop::StreamOps{}.get_buffer;
  connection.stream->set_buffered(true);
  REQUIRE(connection.stream->start_reading() == 0);
  put(connection.pair.theirs.get(), "hello");
  connection.turn();
  CHECK(connection.log.empty());
  CHECK(take(connection.pair.ours.get()) == "hello");
}

TEST_CASE("a buffered read gets the end of the stream, and an error, as its result") {
  ReadingConnection connection("");
  connection.stream->set_buffered(true);
  SECTION("the end") {
    connection.pair.theirs.reset();
    connection.turn();
    CHECK(connection.filled == std::vector<ssize_t>{0});
  }
  SECTION("an error") {
    put(connection.pair.ours.get(), "never read");
    connection.pair.theirs.reset();
    connection.turn();
    CHECK(connection.filled == std::vector<ssize_t>{-ECONNRESET});
  }
  CHECK(connection.log == "get_buffer filled ");
}

TEST_CASE("a stream that stops reading while it asks for memory gets that read and no other") {
  ReadingConnection connection;
  connection.stream->set_buffered(true);
  connection.react = [&](const std::string& call) {
    if (call == "get_buffer") connection.stream->stop_reading();
  };
  connection.turn();
  put(connection.pair.theirs.get(), "later");
  connection.turn();
  CHECK(connection.filled == std::vector<ssize_t>{5});
  CHECK(take(connection.pair.ours.get()) == "later");
}

TEST_CASE("a stream that closes while it asks for memory does not read from the number's next owner") {
  ReadingConnection connection;
  const Pair stranger = make_pair();
  put(stranger.theirs.get(), "a stranger's");
  connection.stream->set_buffered(true);
  connection.react = [&](const std::string& call) {
    if (call != "get_buffer") return;
    connection.stream->close();
    ::dup2(stranger.ours.get(), connection.pair.ours.get());
  };
  connection.turn();
  CHECK(connection.filled == std::vector<ssize_t>{-EAGAIN});
  CHECK(take(stranger.ours.get()) == "a stranger's");
}

TEST_CASE("the kind of reading may change in any call") {
  ReadingConnection connection;
  connection.react = [&](const std::string& call) { connection.stream->set_buffered(call == "data"); };
  connection.turn();
  put(connection.pair.theirs.get(), " again");
  connection.turn();
  put(connection.pair.theirs.get(), " and again");
  connection.turn();
  CHECK(connection.log == "data get_buffer filled data ");
  CHECK(connection.received == "hello again and again");
}

// Sets a connection up so that the next turn makes the call.
void provoke(Connection& connection, const std::string& call) {
  REQUIRE(connection.stream->start_reading() == 0);
  connection.stream->set_buffered(call == "get_buffer" || call == "filled");
  if (call == "read_error") put(connection.pair.ours.get(), "never read");
  if (call == "end" || call == "read_error") {
    connection.pair.theirs.reset();
  } else {
    put(connection.pair.theirs.get(), "hello");
  }
}

TEST_CASE("a stream may be closed from inside any call about reading") {
  const std::string call = GENERATE("data", "get_buffer", "filled", "end", "read_error");
  const bool destroyed = GENERATE(false, true);
  Connection connection;
  provoke(connection, call);
  connection.react = [&](const std::string& made) {
    if (made != call) return;
    if (destroyed && call != "get_buffer") {  // that one has a second half
      connection.stream.reset();
    } else {
      connection.stream->close();
    }
  };
  connection.turn();
  CHECK(connection.log.find(call) != std::string::npos);
  const std::string log = connection.log;
  connection.turn();
  CHECK(connection.log == log);
}

TEST_CASE("a stream that a read closes does not write in the same event") {
  Connection connection;
  connection.fill();
  connection.write("queued");
  REQUIRE(connection.stream->blocked());
  REQUIRE(connection.stream->start_reading() == 0);
  take(connection.pair.theirs.get());
  put(connection.pair.theirs.get(), "hello");
  const bool destroyed = GENERATE(false, true);
  connection.react = [&](const std::string&) {
    if (destroyed) {
      connection.stream.reset();
    } else {
      connection.stream->close();
    }
  };
  connection.turn();
  CHECK(connection.log == "data ");
  CHECK(connection.all_released_once());
}

TEST_CASE("a closed stream does nothing, and its descriptor stays open") {
  Connection connection;
  connection.stream->close();
  CHECK_FALSE(connection.stream->is_open());
  CHECK(connection.stream->start_reading() == -EBADF);
  connection.stream->stop_reading();
  connection.stream->discard_pending();
  CHECK(connection.stream->flush() == 0);
  CHECK(connection.stream->send_now("x", 1) == -EBADF);
  Piece piece("x");
  CHECK(connection.stream->write(piece.segment()) == -EBADF);
  CHECK(connection.stream->wait_writable() == -EBADF);
  CHECK(piece.releases == 0);
  CHECK(connection.stream->pending() == 0);
  connection.stream->close();
  connection.turn();
  CHECK(connection.log.empty());
  put(connection.pair.theirs.get(), "still open");
  CHECK(take(connection.pair.ours.get()) == "still open");
}

TEST_CASE("a closed stream can be opened again") {
  ReadingConnection connection;
  connection.stream->close();
  REQUIRE(connection.open_stream() == 0);
  CHECK_FALSE(connection.stream->reading());
  REQUIRE(connection.stream->start_reading() == 0);
  connection.turn();
  CHECK(connection.received == "hello");
}

TEST_CASE("a socket's stream has an owner who is its user; other code may use a pipe, too") {
  Connection connection;
  CHECK(connection.reactor.user_of(connection.pair.ours.get()) == &connection);
  zloop::test::Pipe pipe = zloop::test::make_pipe();
  Connection reader({.ours = std::move(pipe.read_end), .theirs = std::move(pipe.write_end)}, zloop::pipe_io);
  CHECK(reader.reactor.user_of(reader.pair.ours.get()) == nullptr);
}

TEST_CASE("a descriptor that has a stream takes no second one") {
  Connection connection;
  Stream second;
  CHECK(second.open(connection.reactor, connection.pair.ours.get(), connection.ops, nullptr) == -EEXIST);
  CHECK_FALSE(second.is_open());
}

TEST_CASE("a reactor that closes, or goes, closes its streams") {
  const Pair pair = make_pair();
  Connection connection;
  std::optional<Reactor> reactor(std::in_place);
  REQUIRE(reactor->open() == 0);
  connection.stream->close();
  REQUIRE(connection.stream->open(*reactor, pair.ours.get(), connection.ops, &connection) == 0);
  REQUIRE(connection.stream->start_reading() == 0);
  connection.queue("never sent");
  const bool gone = GENERATE(false, true);
  if (gone) {
    reactor.reset();
  } else {
    reactor->close();
  }
  CHECK_FALSE(connection.stream->is_open());
  CHECK(connection.stream->start_reading() == -EBADF);
  CHECK(connection.stream->flush() == 0);
  Piece piece("never queued");
  CHECK(connection.stream->write(piece.segment()) == -EBADF);
  connection.stream->close();
  CHECK(connection.all_released_once());
  CHECK(take(pair.theirs.get()).empty());
}

}  // namespace
