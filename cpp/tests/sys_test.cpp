#include "zloop/sys.hpp"

#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <string>

#include "support/catch.hpp"
#include "support/interposer.hpp"
#include "support/signals.hpp"
#include "support/sockets.hpp"

namespace {

namespace sys = zloop::sys;
using zloop::test::at_end;
using zloop::test::Fd;
using zloop::test::IgnoredSigpipe;
using zloop::test::Interposer;
using zloop::test::make_pair;
using zloop::test::make_pipe;
using zloop::test::Pair;
using zloop::test::Pipe;
using zloop::test::put;
using zloop::test::take;

// On a port of its own.
Fd make_udp_socket() {
  Fd socket = zloop::test::make_socket(AF_INET, SOCK_DGRAM);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  REQUIRE(::bind(socket.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)) == 0);
  return socket;
}

TEST_CASE("recv gives bytes, the end of the stream, or why there are none") {
  Pair pair = make_pair();
  std::string buffer(8, '\0');
  CHECK(sys::recv(pair.ours.get(), buffer.data(), buffer.size()) == -EAGAIN);
  put(pair.theirs.get(), "hello");
  REQUIRE(sys::recv(pair.ours.get(), buffer.data(), buffer.size()) == 5);
  CHECK(buffer.substr(0, 5) == "hello");
  pair.theirs.reset();
  CHECK(sys::recv(pair.ours.get(), buffer.data(), buffer.size()) == 0);
  CHECK(sys::recv(-1, buffer.data(), buffer.size()) == -EBADF);
}

TEST_CASE("send and sendv give what the kernel took") {
  const Pair pair = make_pair();
  std::string one = "one";
  std::string two = "two";
  const std::array<iovec, 2> vectors{
      iovec{.iov_base = one.data(), .iov_len = one.size()},
      iovec{.iov_base = two.data(), .iov_len = two.size()},
  };
  CHECK(sys::send(pair.ours.get(), "zero", 4) == 4);
  CHECK(sys::sendv(pair.ours.get(), vectors.data(), 2) == 6);
  CHECK(take(pair.theirs.get()) == "zeroonetwo");
}

TEST_CASE("sending to a peer that is gone answers EPIPE, without a signal") {
  Pair pair = make_pair();
  sys::prepare_socket(pair.ours.get());
  pair.theirs.reset();
  iovec vector{};
  std::string bytes = "x";
  vector.iov_base = bytes.data();
  vector.iov_len = bytes.size();
  CHECK(sys::send(pair.ours.get(), "x", 1) == -EPIPE);
  CHECK(sys::sendv(pair.ours.get(), &vector, 1) == -EPIPE);
}

// A packet over the bytes of `text`.
sys::Packet packet(std::string& text) {
  return {.memory = {.iov_base = text.data(), .iov_len = text.size()}, .peer = nullptr, .peer_size = 0};
}

TEST_CASE("packets are sent and received, several at a time, with their sizes and senders") {
  const Pair pair = make_pair(SOCK_DGRAM);
  std::array<std::string, 3> texts{"one", "", "three"};
  std::array<sys::Packet, 3> sent{packet(texts[0]), packet(texts[1]), packet(texts[2])};
  REQUIRE(sys::send_packets(pair.ours.get(), sent.data(), 3) == 3);
  std::array<std::string, 4> rooms;
  std::array<sockaddr_storage, 4> peers{};
  std::array<sys::Packet, 4> received{};
  for (std::size_t i = 0; i < 4; ++i) {
    rooms.at(i).resize(4);
    received.at(i) = packet(rooms.at(i));
    received.at(i).peer = reinterpret_cast<sockaddr*>(&peers.at(i));
  }
  REQUIRE(sys::receive_packets(pair.theirs.get(), received.data(), 4) == 3);
  CHECK(rooms[0].substr(0, received[0].memory.iov_len) == "one");
  CHECK(received[1].memory.iov_len == 0);
  CHECK(rooms[2].substr(0, received[2].memory.iov_len) == "thre");  // cut to the room there was
  CHECK(sys::receive_packets(pair.theirs.get(), received.data(), 4) == -EAGAIN);
  CHECK(sys::receive_packets(-1, received.data(), 4) == -EBADF);
  CHECK(sys::send_packets(-1, sent.data(), 3) == -EBADF);
}

TEST_CASE("packets to a peer that is gone answer why", "[linux]") {
  Pair pair = make_pair(SOCK_DGRAM);
  pair.theirs.reset();
  std::string text = "lost";
  const sys::Packet one = packet(text);
  CHECK(sys::send_packets(pair.ours.get(), &one, 1) == -ECONNREFUSED);
}

TEST_CASE("packets go one by one where a sandbox forbids the calls that take several", "[linux]") {
  const int error = GENERATE(ENOSYS, EPERM);
  const Pair pair = make_pair(SOCK_DGRAM);
  std::array<std::string, 3> texts{"one", "two", "three"};
  const std::array<sys::Packet, 3> sent{packet(texts[0]), packet(texts[1]), packet(texts[2])};
  std::array<std::string, 3> rooms;
  std::array<sockaddr_storage, 3> peers{};
  std::array<sys::Packet, 3> received{};
  for (std::size_t i = 0; i < 3; ++i) {
    rooms.at(i).resize(8);
    received.at(i) = packet(rooms.at(i));
    received.at(i).peer = reinterpret_cast<sockaddr*>(&peers.at(i));
  }
  Interposer kernel;
  kernel.send.errors = {error};
  CHECK(sys::send_packets(pair.ours.get(), sent.data(), 3) == 3);
  CHECK(kernel.send.count == 4);  // the one that is forbidden, and one for each
  kernel.receive.errors = {error};
  REQUIRE(sys::receive_packets(pair.theirs.get(), received.data(), 3) == 3);
  for (std::size_t i = 0; i < 3; ++i) CHECK(rooms.at(i).substr(0, received.at(i).memory.iov_len) == texts.at(i));
  kernel.receive.errors = {error};
  CHECK(sys::receive_packets(pair.theirs.get(), received.data(), 3) == -EAGAIN);
}

TEST_CASE("a firewall's refusal of a packet is not taken for a forbidden call", "[linux]") {
  const Pair pair = make_pair(SOCK_DGRAM);
  std::string text = "refused";
  const sys::Packet one = packet(text);
  Interposer kernel;
  kernel.send.errors = {EPERM, EPERM};
  CHECK(sys::send_packets(pair.ours.get(), &one, 1) == -EPERM);
}

TEST_CASE("recv_from and send_to take one datagram, with its sender and to its receiver") {
  const Fd ours = make_udp_socket();
  const Fd theirs = make_udp_socket();
  sockaddr_storage address{};
  socklen_t size = 0;
  std::string buffer(4, '\0');
  CHECK(sys::recv_from(theirs.get(), buffer.data(), buffer.size(), &address, &size) == -EAGAIN);
  REQUIRE(sys::local_address(theirs.get(), &address, &size) == 0);
  const auto* const receiver = reinterpret_cast<const sockaddr*>(&address);
  REQUIRE(sys::send_to(ours.get(), "hello", 5, receiver, size) == 5);
  pollfd arriving{.fd = theirs.get(), .events = POLLIN, .revents = 0};
  REQUIRE(::poll(&arriving, 1, 20'000) == 1);
  sockaddr_storage sender{};
  REQUIRE(sys::recv_from(theirs.get(), buffer.data(), buffer.size(), &sender, &size) == 4);  // cut to the room there is
  CHECK(buffer == "hell");
  sockaddr_storage expected{};
  socklen_t expected_size = 0;
  REQUIRE(sys::local_address(ours.get(), &expected, &expected_size) == 0);
  REQUIRE(size == expected_size);
  CHECK(std::memcmp(&sender, &expected, size) == 0);
  CHECK(sys::send_to(-1, "x", 1, receiver, size) == -EBADF);
}

TEST_CASE("a datagram from a socket without an address has no sender") {
  const Pair pair = make_pair(SOCK_DGRAM);
  put(pair.theirs.get(), "x");
  std::string buffer(4, '\0');
  sockaddr_storage sender{};
  socklen_t size = 1;
  REQUIRE(sys::recv_from(pair.ours.get(), buffer.data(), buffer.size(), &sender, &size) == 1);
  CHECK(size == 0);
}

TEST_CASE("a call that a signal interrupts is repeated") {
  const Pair pair = make_pair();
  Interposer kernel;
  kernel.send.errors = {EINTR, EINTR};
  CHECK(sys::send(pair.theirs.get(), "abc", 3) == 3);
  CHECK(kernel.send.count == 3);
  kernel.receive.errors = {EINTR, EINTR, EINTR};
  std::string buffer(8, '\0');
  CHECK(sys::recv(pair.ours.get(), buffer.data(), buffer.size()) == 3);
  CHECK(kernel.receive.count == 4);
}

TEST_CASE("read, write and writev work on what is no socket") {
  const IgnoredSigpipe ignored;
  Pipe pipe = make_pipe();
  std::string one = "one";
  std::string two = "two";
  const std::array<iovec, 2> vectors{
      iovec{.iov_base = one.data(), .iov_len = one.size()},
      iovec{.iov_base = two.data(), .iov_len = two.size()},
  };
  std::string buffer(16, '\0');
  CHECK(sys::read(pipe.read_end.get(), buffer.data(), buffer.size()) == -EAGAIN);
  CHECK(sys::write(pipe.write_end.get(), "zero", 4) == 4);
  CHECK(sys::writev(pipe.write_end.get(), vectors.data(), 2) == 6);
  REQUIRE(sys::read(pipe.read_end.get(), buffer.data(), buffer.size()) == 10);
  CHECK(buffer.substr(0, 10) == "zeroonetwo");
  pipe.read_end.reset();
  CHECK(sys::write(pipe.write_end.get(), "x", 1) == -EPIPE);
  CHECK(sys::writev(pipe.write_end.get(), vectors.data(), 2) == -EPIPE);
  CHECK(sys::read(-1, buffer.data(), buffer.size()) == -EBADF);
}

struct Listener {
  Fd fd;
  sockaddr_in address{};

  [[nodiscard]] const sockaddr* generic() const { return reinterpret_cast<const sockaddr*>(&address); }
};

Listener make_listener() {
  Listener listener{.fd = zloop::test::make_socket(AF_INET, SOCK_STREAM)};
  listener.address.sin_family = AF_INET;
  listener.address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof(listener.address);
  auto* const generic = reinterpret_cast<sockaddr*>(&listener.address);
  REQUIRE(::bind(listener.fd.get(), generic, size) == 0);
  REQUIRE(::listen(listener.fd.get(), 1) == 0);
  REQUIRE(::getsockname(listener.fd.get(), generic, &size) == 0);
  return listener;
}

TEST_CASE("accept gives a connection that neither blocks nor outlives an exec, and its peer") {
  const Listener listener = make_listener();
  sockaddr_storage peer{};
  socklen_t peer_size = 0;
  CHECK(sys::accept(listener.fd.get(), &peer, &peer_size) == -EAGAIN);
  const Fd client(::socket(AF_INET, SOCK_STREAM, 0));
  REQUIRE(::connect(client.get(), listener.generic(), sizeof(listener.address)) == 0);
  Interposer kernel;
  kernel.accept.errors = {EINTR};
  const Fd accepted(sys::accept(listener.fd.get(), &peer, &peer_size));
  REQUIRE(accepted.get() >= 0);
  CHECK(kernel.accept.count == 2);
  CHECK((::fcntl(accepted.get(), F_GETFL) & O_NONBLOCK) != 0);
  CHECK((::fcntl(accepted.get(), F_GETFD) & FD_CLOEXEC) != 0);
  CHECK(peer.ss_family == AF_INET);
  CHECK(peer_size == sizeof(sockaddr_in));
}

// How a connection attempt ends, which has begun with `status`.
int connected(int fd, int status) {
  while (status == -EINPROGRESS) status = sys::finish_connect(fd);
  return status;
}

TEST_CASE("connect begins, and finish_connect reports the result") {
  Listener listener = make_listener();
  Fd client = zloop::test::make_socket(AF_INET, SOCK_STREAM);
  const int status = sys::connect(client.get(), listener.generic(), sizeof(listener.address));
  CHECK((status == 0 || status == -EINPROGRESS));
  CHECK(connected(client.get(), status) == 0);
  const int closed = client.get();
  client.reset();
  CHECK(sys::finish_connect(closed) == -EBADF);

  listener.fd.reset();
  const Fd refused = zloop::test::make_socket(AF_INET, SOCK_STREAM);
  CHECK(connected(refused.get(), sys::connect(refused.get(), listener.generic(), sizeof(listener.address))) ==
        -ECONNREFUSED);
  CHECK(sys::connect(-1, listener.generic(), sizeof(listener.address)) == -EBADF);
}

TEST_CASE("open_socket's neither blocks nor outlives an exec") {
  const Fd fd{sys::open_socket(AF_INET, SOCK_STREAM, IPPROTO_TCP)};
  REQUIRE(fd.get() >= 0);
  CHECK((::fcntl(fd.get(), F_GETFL) & O_NONBLOCK) != 0);
  CHECK((::fcntl(fd.get(), F_GETFD) & FD_CLOEXEC) != 0);
  int type = 0;
  socklen_t size = sizeof(type);
  REQUIRE(::getsockopt(fd.get(), SOL_SOCKET, SO_TYPE, &type, &size) == 0);
  CHECK(type == SOCK_STREAM);
  CHECK(sys::open_socket(-1, SOCK_STREAM, 0) == -EAFNOSUPPORT);
}

TEST_CASE("local_address gives a socket's own") {
  const Listener listener = make_listener();
  sockaddr_storage address{};
  socklen_t size = 0;
  REQUIRE(sys::local_address(listener.fd.get(), &address, &size) == 0);
  REQUIRE(size == sizeof(sockaddr_in));
  CHECK(reinterpret_cast<const sockaddr_in&>(address).sin_port == listener.address.sin_port);
  CHECK(sys::local_address(-1, &address, &size) == -EBADF);
}

TEST_CASE("peer_address gives the other end's, of a connected socket") {
  const Listener listener = make_listener();
  const Fd client = zloop::test::make_socket(AF_INET, SOCK_STREAM);
  sockaddr_storage address{};
  socklen_t size = 0;
  CHECK(sys::peer_address(client.get(), &address, &size) == -ENOTCONN);
  REQUIRE(connected(client.get(), sys::connect(client.get(), listener.generic(), sizeof(listener.address))) == 0);
  REQUIRE(sys::peer_address(client.get(), &address, &size) == 0);
  REQUIRE(size == sizeof(sockaddr_in));
  CHECK(reinterpret_cast<const sockaddr_in&>(address).sin_port == listener.address.sin_port);
}

TEST_CASE("set_nodelay switches Nagle's algorithm off, where there is one") {
  const Fd fd = zloop::test::make_socket(AF_INET, SOCK_STREAM);
  int value = 0;
  socklen_t size = sizeof(value);
  CHECK(sys::set_nodelay(fd.get()) == 0);
  REQUIRE(::getsockopt(fd.get(), IPPROTO_TCP, TCP_NODELAY, &value, &size) == 0);
  CHECK(value != 0);
  CHECK(sys::set_nodelay(make_pair().ours.get()) < 0);
}

TEST_CASE("shutdown_write ends the stream in one direction") {
  const Pair pair = make_pair();
  CHECK(sys::shutdown_write(pair.ours.get()) == 0);
  CHECK(at_end(pair.theirs.get()));
  put(pair.theirs.get(), "x");
  CHECK(take(pair.ours.get()) == "x");
  CHECK(sys::shutdown_write(-1) == -EBADF);
}

TEST_CASE("close releases the number, and check_open reports it") {
  Pair pair = make_pair();
  const int fd = pair.ours.release();
  CHECK(sys::check_open(fd) == 0);
  CHECK(sys::close(fd) == 0);
  CHECK(sys::check_open(fd) == -EBADF);
  CHECK(sys::close(fd) == -EBADF);
}

}  // namespace
