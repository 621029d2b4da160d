// Stream over what is no socket: the ends of a pipe.
#include <cerrno>
#include <string>
#include <utility>

#include "support/catch.hpp"
#include "support/connection.hpp"
#include "support/signals.hpp"
#include "support/sockets.hpp"

namespace {

using zloop::test::Connection;
using zloop::test::IgnoredSigpipe;
using zloop::test::make_pair;
using zloop::test::make_pipe;
using zloop::test::Pair;
using zloop::test::pattern;
using zloop::test::Piece;
using zloop::test::Pipe;
using zloop::test::put;
using zloop::test::take;

Pair our_read_end() {
  Pipe pipe = make_pipe();
  return {.ours = std::move(pipe.read_end), .theirs = std::move(pipe.write_end)};
}

Pair our_write_end() {
  Pipe pipe = make_pipe();
  return {.ours = std::move(pipe.write_end), .theirs = std::move(pipe.read_end)};
}

// The reading end of a pipe, and it is read.
struct ReadEnd : Connection {
  ReadEnd() : Connection(our_read_end(), zloop::pipe_io) { REQUIRE(stream->start_reading() == 0); }
};

// The writing end, with an eye on the reader.
struct WriteEnd : Connection {
  explicit WriteEnd(Pair ends = our_write_end()) : Connection(std::move(ends), zloop::write_end_io) {
    REQUIRE(stream->start_reading() == 0);
  }

  const IgnoredSigpipe ignored;
};

TEST_CASE("a pipe's reading end gives what is written, then the end") {
  ReadEnd reader;
  reader.turn();
  CHECK(reader.log.empty());
  put(reader.pair.theirs.get(), "hello");
  reader.turn();
  CHECK(reader.received == "hello");
  put(reader.pair.theirs.get(), " again");
  reader.pair.theirs.reset();
  reader.turn();
  reader.turn();
  CHECK(reader.received == "hello again");
  CHECK(reader.log == "data data end ");
}

TEST_CASE("a pipe's reading end fills its owner's memory") {
  ReadEnd reader;
  reader.stream->set_buffered(true);
  put(reader.pair.theirs.get(), "hello");
  reader.turn();
  CHECK(reader.received == "hello");
  CHECK(reader.filled == std::vector<ssize_t>{5});
}

TEST_CASE("writes to a pipe go out in order, many in a call") {
  WriteEnd writer;
  writer.write("one ");
  CHECK(take(writer.pair.theirs.get()) == "one ");
  writer.queue("two ");
  writer.queue("three");
  CHECK(writer.stream->flush() == 0);
  CHECK(take(writer.pair.theirs.get()) == "two three");
  CHECK(writer.stream->send_now("!", 1) == 1);
  CHECK(take(writer.pair.theirs.get()) == "!");
  CHECK(writer.all_released_once());
  writer.turn();
  CHECK(writer.log.empty());
}

TEST_CASE("what a full pipe does not take waits until it is read") {
  WriteEnd writer;
  const std::string whole = pattern(std::size_t{1} << 18);
  writer.write(whole);
  CHECK(writer.stream->blocked());
  std::string taken;
  while (writer.stream->pending() > 0) {
    const std::string some = take(writer.pair.theirs.get());
    REQUIRE_FALSE(some.empty());
    taken += some;
    writer.turn();
  }
  taken += take(writer.pair.theirs.get());
  CHECK((taken == whole));
  CHECK(writer.all_released_once());
  CHECK_FALSE(writer.stream->blocked());
}

TEST_CASE("a writing end is notified when the reader goes, full or not") {
  const bool full = GENERATE(false, true);
  WriteEnd writer;
  if (full) {
    writer.fill();
    writer.write("more");
  }
  writer.turn();
  CHECK(writer.log.empty());
  writer.react = [&](const std::string& /*call*/) { writer.stream->close(); };
  writer.pair.theirs.reset();
  writer.turn();
  CHECK(writer.log == "end ");
  CHECK(writer.all_released_once());
}

TEST_CASE("writing to a pipe that nobody reads fails") {
  WriteEnd writer;
  writer.pair.theirs.reset();
  Piece piece("hello");
  CHECK(writer.stream->write(piece.segment()) == -EPIPE);
  CHECK(piece.releases == 0);
  CHECK(writer.stream->pending() == 0);
}

TEST_CASE("a socket that is only written to keeps the bytes that come") {
  WriteEnd writer(make_pair());
  put(writer.pair.theirs.get(), "hello");
  writer.turn();
  CHECK(writer.log == "end ");
  CHECK(take(writer.pair.ours.get()) == "hello");
}

}  // namespace
