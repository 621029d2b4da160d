#include "zloop/listener.hpp"

#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <unistd.h>

#include <cerrno>
#include <functional>
#include <memory>
#include <vector>

#include "support/catch.hpp"
#include "support/interposer.hpp"
#include "support/platform.hpp"
#include "support/sockets.hpp"
#include "zloop/address.hpp"

namespace {

using zloop::Address;
using zloop::Listener;
using zloop::ListenerOps;
using zloop::Reactor;
using zloop::test::DescriptorLimit;
using zloop::test::Fd;
using zloop::test::Interposer;

// A listener on a port of its own, and an owner that keeps what it is given.
class Port {
 public:
  explicit Port(int burst = 100) {
    address.parse("127.0.0.1", 0, AF_INET);
    REQUIRE(::bind(socket.get(), address.data(), address.size()) == 0);
    REQUIRE(::listen(socket.get(), 100) == 0);
    sockaddr_storage bound{};
    socklen_t size = sizeof(bound);
    REQUIRE(::getsockname(socket.get(), reinterpret_cast<sockaddr*>(&bound), &size) == 0);
    address = Address(bound, size);
    REQUIRE(reactor.open() == 0);
    REQUIRE(listener.open(reactor, socket.get(), burst) == 0);
    REQUIRE(listener.start() == 0);
  }

  Fd& connect() {
    Fd& client = clients.emplace_back(::socket(AF_INET, SOCK_STREAM, 0));
    REQUIRE(::connect(client.get(), address.data(), address.size()) == 0);
    pollfd arrived{.fd = socket.get(), .events = POLLIN, .revents = 0};
    REQUIRE(::poll(&arrived, 1, zloop::test::patience_ns / 1'000'000) == 1);
    return client;
  }

  void connect_many(int count) {
    for (int i = 0; i < count; ++i) connect();
  }

  // Deals with what is ready at once; true if anything was.
  bool turn() {
    const int count = reactor.wait(0);
    REQUIRE(count >= 0);
    reactor.dispatch();
    return count > 0;
  }

  Fd socket = zloop::test::make_socket(AF_INET, SOCK_STREAM);
  Address address;
  Reactor reactor;
  Listener listener{ops, this};
  std::vector<Fd> clients;
  std::vector<Fd> accepted;
  std::vector<Address> peers;
  std::vector<int> errors;
  std::function<void()> react;  // after each call

 private:
  static void on_accept(void* owner, int fd, const sockaddr_storage& peer, socklen_t peer_size) noexcept {
    auto& port = *static_cast<Port*>(owner);
    port.accepted.emplace_back(fd);
    port.peers.emplace_back(peer, peer_size);
    if (port.react) port.react();
  }

  static void on_error(void* owner, int error) noexcept {
    auto& port = *static_cast<Port*>(owner);
    port.errors.push_back(error);
    if (port.react) port.react();
  }

  static constexpr ListenerOps ops{.on_accept = &Port::on_accept, .on_error = &Port::on_error};
};

TEST_CASE("a listener hands on connections with their peers, non-blocking and close-on-exec") {
  Port port;
  CHECK(port.listener.is_open());
  const Fd& client = port.connect();
  REQUIRE(port.turn());
  REQUIRE(port.accepted.size() == 1);
  const int fd = port.accepted[0].get();
  CHECK((::fcntl(fd, F_GETFL) & O_NONBLOCK) != 0);
  CHECK((::fcntl(fd, F_GETFD) & FD_CLOEXEC) != 0);
  sockaddr_in local{};
  socklen_t size = sizeof(local);
  REQUIRE(::getsockname(client.get(), reinterpret_cast<sockaddr*>(&local), &size) == 0);
  CHECK(port.peers[0].family() == AF_INET);
  CHECK(port.peers[0].port() == ntohs(local.sin_port));
  CHECK_FALSE(port.turn());
  CHECK(port.errors.empty());
}

TEST_CASE("a connection may get the number 0") {
  Port port;
  port.connect();
  const zloop::test::NumberZero free;
  REQUIRE(port.turn());
  REQUIRE(port.accepted.size() == 1);
  CHECK(port.accepted[0].get() == 0);
  CHECK(port.errors.empty());
  port.accepted.clear();  // before the standard input comes back
}

TEST_CASE("one event brings no more connections than the burst, and the next ones the others", "[loopback]") {
  Port port(2);
  port.connect_many(5);
  std::vector<std::size_t> accepted;
  while (port.turn()) accepted.push_back(port.accepted.size());
  CHECK(accepted == std::vector<std::size_t>{2, 4, 5});
}

TEST_CASE("a burst of less than one is one", "[loopback]") {
  Port port(GENERATE(0, -1));
  port.connect_many(2);
  REQUIRE(port.turn());
  CHECK(port.accepted.size() == 1);
}

TEST_CASE("a listener accepts nothing before it starts, nor while it pauses") {
  Port port;
  port.listener.pause();
  port.connect();
  CHECK_FALSE(port.turn());
  REQUIRE(port.listener.start() == 0);
  REQUIRE(port.turn());
  CHECK(port.accepted.size() == 1);
}

TEST_CASE("a callback may pause the listener", "[loopback]") {
  Port port;
  port.connect_many(3);
  port.react = [&] { port.listener.pause(); };
  REQUIRE(port.turn());
  CHECK(port.accepted.size() == 1);
  CHECK_FALSE(port.turn());
  port.react = nullptr;
  REQUIRE(port.listener.start() == 0);
  REQUIRE(port.turn());
  CHECK(port.accepted.size() == 3);
}

TEST_CASE("a callback may close the listener", "[loopback]") {
  Port port;
  port.connect_many(3);
  port.react = [&] { port.listener.close(); };
  REQUIRE(port.turn());
  CHECK(port.accepted.size() == 1);
  CHECK_FALSE(port.listener.is_open());
  CHECK_FALSE(port.turn());
}

TEST_CASE("a callback may close the reactor", "[loopback]") {
  Port port;
  port.connect_many(3);
  port.react = [&] { port.reactor.close(); };
  REQUIRE(port.turn());
  CHECK(port.accepted.size() == 1);
  CHECK_FALSE(port.listener.is_open());
}

TEST_CASE("a closed listener does nothing, and its descriptor stays open") {
  Port port;
  port.listener.close();
  port.listener.close();
  CHECK(port.listener.start() == -EBADF);
  port.listener.pause();
  port.connect();
  CHECK_FALSE(port.turn());
  REQUIRE(port.listener.open(port.reactor, port.socket.get(), 1) == 0);
  REQUIRE(port.listener.start() == 0);
  REQUIRE(port.turn());
  CHECK(port.accepted.size() == 1);
}

TEST_CASE("a descriptor that has a listener takes no second one") {
  Port port;
  const ListenerOps nothing;
  Listener second(nothing, nullptr);
  CHECK(second.open(port.reactor, port.socket.get(), 1) == -EEXIST);
  CHECK_FALSE(second.is_open());
}

TEST_CASE("an owner without a function for connections has them closed", "[loopback]") {
  Port port;
  port.listener.close();
  const ListenerOps nothing;
  Listener listener(nothing, nullptr);
  REQUIRE(listener.open(port.reactor, port.socket.get(), 1) == 0);
  REQUIRE(listener.start() == 0);
  const int client = port.connect().get();
  const std::size_t before = zloop::test::open_descriptors().size();
  REQUIRE(port.turn());
  CHECK(zloop::test::open_descriptors().size() == before);
  CHECK(zloop::test::at_end(client));
}

TEST_CASE("a connection that is gone again is not reported") {
  Port port;
  port.connect();
  REQUIRE(port.reactor.wait(0) == 1);
  const Fd taken_by_another(::accept(port.socket.get(), nullptr, nullptr));
  REQUIRE(taken_by_another.get() >= 0);
  port.reactor.dispatch();
  CHECK(port.accepted.empty());
  CHECK(port.errors.empty());
}

TEST_CASE("a process without descriptors is notified once, and goes on when it has some", "[loopback]") {
  Port port;
  port.connect_many(2);
  {
    const DescriptorLimit limit(0);
    REQUIRE(port.turn());
    CHECK(port.errors == std::vector<int>{EMFILE});
    CHECK_FALSE(port.turn());  // paused: the kernel would go on reporting the connections
    CHECK(port.listener.is_open());
  }
  CHECK(port.accepted.empty());
  REQUIRE(port.listener.start() == 0);
  REQUIRE(port.turn());
  CHECK(port.accepted.size() == 2);
  CHECK(port.errors.size() == 1);
}

TEST_CASE("the descriptors run out in the middle of a burst", "[loopback]") {
  Port port;
  port.connect_many(3);
  {
    const DescriptorLimit limit(2);
    REQUIRE(port.turn());
    CHECK(port.accepted.size() == 2);
    CHECK(port.errors == std::vector<int>{EMFILE});
  }
  REQUIRE(port.listener.start() == 0);
  REQUIRE(port.turn());
  CHECK(port.accepted.size() == 3);
}

TEST_CASE("a want of resources pauses the listener") {
  const int error = GENERATE(EMFILE, ENFILE, ENOBUFS, ENOMEM);
  CHECK(Listener::out_of_resources(error));
  Port port;
  port.connect();
  Interposer kernel;
  kernel.accept.errors = {error};
  REQUIRE(port.turn());
  CHECK(port.errors == std::vector<int>{error});
  CHECK_FALSE(port.turn());
}

TEST_CASE("an owner may start the listener again at once") {
  Port port;
  port.connect();
  port.react = [&] { CHECK(port.listener.start() == 0); };
  Interposer kernel;
  kernel.accept.errors = {EMFILE};
  REQUIRE(port.turn());
  REQUIRE(port.turn());
  CHECK(port.accepted.size() == 1);
}

TEST_CASE("another error is reported, and the listener goes on") {
  const int error = GENERATE(EPERM, EINVAL, EBADF);
  CHECK_FALSE(Listener::out_of_resources(error));
  Port port;
  port.connect();
  Interposer kernel;
  kernel.accept.errors = {error};
  REQUIRE(port.turn());
  CHECK(port.errors == std::vector<int>{error});
  CHECK(port.accepted.empty());
  REQUIRE(port.turn());
  CHECK(port.accepted.size() == 1);
}

TEST_CASE("a connection that died in the queue does not hide the one behind it") {
  Port port;
  port.connect();
  Interposer kernel;
  const std::vector<int> errors = zloop::test::errors_before_accept();
  kernel.accept.errors.assign(errors.begin(), errors.end());
  kernel.accept.errors.push_back(EINTR);
  REQUIRE(port.turn());
  CHECK(port.errors.empty());
  CHECK(port.accepted.size() == 1);
}

}  // namespace
