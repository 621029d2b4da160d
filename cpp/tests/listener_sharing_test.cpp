// Several listeners on one socket, each with a reactor of its own: who is woken, and who accepts. Linux only.
#include <sys/socket.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <fstream>
#include <numeric>
#include <string>
#include <thread>
#include <vector>

#include "support/catch.hpp"
#include "support/interposer.hpp"
#include "support/sockets.hpp"
#include "zloop/listener.hpp"
#include "zloop/reactor.hpp"
#include "zloop/sys.hpp"

namespace {

using zloop::Listener;
using zloop::ListenerOps;
using zloop::Reactor;
using zloop::test::Fd;
using zloop::test::Interposer;
using zloop::test::patience_ns;

// A socket that listens, and its clients.
struct Port {
  Port() {
    const sockaddr family{.sa_family = AF_UNIX, .sa_data = {}};
    REQUIRE(::bind(socket.get(), &family, sizeof(family.sa_family)) == 0);  // the kernel finds a name
    REQUIRE(::listen(socket.get(), 1000) == 0);
    REQUIRE(zloop::sys::local_address(socket.get(), &name, &name_size) == 0);
  }

  void connect() {
    const Fd& client = clients.emplace_back(::socket(AF_UNIX, SOCK_STREAM, 0));
    REQUIRE(::connect(client.get(), reinterpret_cast<const sockaddr*>(&name), name_size) == 0);
  }

  Fd socket = zloop::test::make_socket(AF_UNIX, SOCK_STREAM);
  std::vector<Fd> clients;
  sockaddr_storage name{};
  socklen_t name_size = 0;
};

// One loop's listener on it.
class Acceptor {
 public:
  explicit Acceptor(const Port& port, bool shared = true) {
    REQUIRE(reactor.open() == 0);
    REQUIRE(listener.open(reactor, port.socket.get(), 100) == 0);
    listener.set_shared(shared);
    REQUIRE(listener.start() == 0);
  }

  // Deals with what is ready, or waits for it; returns whether anything was.
  bool turn(std::int64_t timeout_ns = 0) {
    const int events = reactor.wait(timeout_ns);
    reactor.dispatch();
    return events > 0;
  }

  Reactor reactor;
  Listener listener{ops, this};
  std::vector<Fd> accepted;
  std::vector<int> errors;
  std::atomic<int> count{0};  // of what is accepted

 private:
  static void on_accept(void* owner, int fd, const sockaddr_storage& /*peer*/, socklen_t /*peer_size*/) noexcept {
    auto& acceptor = *static_cast<Acceptor*>(owner);
    acceptor.accepted.emplace_back(fd);
    ++acceptor.count;
  }

  static void on_error(void* owner, int error) noexcept { static_cast<Acceptor*>(owner)->errors.push_back(error); }

  static constexpr ListenerOps ops{.on_accept = &Acceptor::on_accept, .on_error = &Acceptor::on_error};
};

// True if a thread of this process sleeps in a system call.
bool is_asleep(pid_t thread) {
  std::ifstream file("/proc/self/task/" + std::to_string(thread) + "/stat");
  std::string line;
  std::getline(file, line);
  const auto name_end = line.rfind(')');
  return name_end != std::string::npos && line.substr(name_end, 4) == ") S ";
}

// A loop in a thread of its own, until it is destroyed.
class RunningAcceptor : public Acceptor {
 public:
  explicit RunningAcceptor(const Port& port) : Acceptor(port), thread_([this] { run(); }) {}

  ~RunningAcceptor() {
    stops_ = true;
    reactor.notify();
    thread_.join();
  }

  RunningAcceptor(const RunningAcceptor&) = delete;
  RunningAcceptor& operator=(const RunningAcceptor&) = delete;

  [[nodiscard]] int wakes() const noexcept { return wakes_; }
  // True if it waits for connections.
  [[nodiscard]] bool is_idle() const { return thread_id_ != 0 && is_asleep(thread_id_); }

 private:
  void run() {
    thread_id_ = ::gettid();
    while (!stops_) {
      if (turn(patience_ns)) ++wakes_;
    }
  }

  std::atomic<bool> stops_{false};
  std::atomic<int> wakes_{0};
  std::atomic<pid_t> thread_id_{0};
  std::thread thread_;
};

TEST_CASE("connections go round the loops that wait, and each wakes one") {
  Port port;
  std::deque<RunningAcceptor> acceptors;
  for (int i = 0; i < 4; ++i) acceptors.emplace_back(port);
  for (int i = 1; i <= 200; ++i) {
    port.connect();
    const auto accepted_by_one = [](int sum, const RunningAcceptor& acceptor) { return sum + acceptor.count; };
    while (std::accumulate(acceptors.begin(), acceptors.end(), 0, accepted_by_one) < i) std::this_thread::yield();
    for (const RunningAcceptor& acceptor : acceptors) {
      while (!acceptor.is_idle()) std::this_thread::yield();
    }
  }
  int wakes = 0;
  for (const RunningAcceptor& acceptor : acceptors) {
    CHECK(acceptor.count >= 45);
    CHECK(acceptor.count <= 55);
    CHECK(acceptor.errors.empty());
    wakes += acceptor.wakes();
  }
  CHECK(wakes < 250);
}

TEST_CASE("a listener that shares takes one connection for each event, and alone again all of them") {
  Port port;
  Acceptor acceptor(port);
  for (int i = 0; i < 5; ++i) port.connect();
  std::vector<std::size_t> accepted;
  for (int i = 0; i < 3; ++i) {
    REQUIRE(acceptor.turn());
    accepted.push_back(acceptor.accepted.size());
  }
  acceptor.listener.set_shared(false);
  acceptor.listener.line_up();
  REQUIRE(acceptor.turn());
  accepted.push_back(acceptor.accepted.size());
  CHECK(accepted == std::vector<std::size_t>{1, 2, 3, 5});
  CHECK_FALSE(acceptor.turn());
  port.connect();
  REQUIRE(acceptor.turn());
  CHECK(acceptor.accepted.size() == 6);
}

TEST_CASE("a listener that is alone goes back to an entry that it can pause and start without a removal") {
  Port port;
  Acceptor acceptor(port);
  port.connect();
  REQUIRE(acceptor.turn());
  acceptor.listener.set_shared(false);
  acceptor.listener.line_up();
  port.connect();
  REQUIRE(acceptor.turn());
  const Interposer kernel;
  acceptor.listener.pause();
  CHECK(kernel.poller_modify.count == 1);
  REQUIRE(acceptor.listener.start() == 0);
  CHECK(kernel.poller_modify.count == 2);
  CHECK(kernel.poller_add.count == 0);
  CHECK(kernel.poller_remove.count == 0);
}

TEST_CASE("a listener that shares makes no calls for an event that another has dealt with") {
  Port port;
  Acceptor acceptor(port);
  port.connect();
  REQUIRE(acceptor.reactor.wait(0) == 1);
  const Fd taken(::accept(port.socket.get(), nullptr, nullptr));
  const Interposer kernel;
  acceptor.reactor.dispatch();
  CHECK(kernel.accept.count == 1);
  CHECK(kernel.poller_control.count == 0);
  CHECK(acceptor.accepted.empty());
}

TEST_CASE("a listener that shares can pause, start and close") {
  Port port;
  Acceptor acceptor(port);
  port.connect();
  REQUIRE(acceptor.turn());
  acceptor.listener.pause();
  acceptor.listener.line_up();  // has no effect
  port.connect();
  CHECK_FALSE(acceptor.turn());
  REQUIRE(acceptor.listener.start() == 0);
  REQUIRE(acceptor.turn());
  CHECK(acceptor.accepted.size() == 2);
  acceptor.listener.close();
  acceptor.listener.line_up();
  port.connect();
  CHECK_FALSE(acceptor.turn());
  CHECK(acceptor.errors.empty());
}

TEST_CASE("what a listener was woken for and left is there for another that lines up") {
  Port port;
  Acceptor first(port);
  Acceptor second(port);
  port.connect();
  REQUIRE(second.turn());  // behind the first one from here on
  std::atomic<pid_t> thread_id{0};
  int events = 0;
  std::thread waiting([&] {
    thread_id = ::gettid();
    events = first.reactor.wait(patience_ns);
  });
  while (thread_id == 0 || !is_asleep(thread_id)) std::this_thread::yield();
  port.connect();
  waiting.join();
  CHECK(events == 1);
  first.listener.close();
  CHECK_FALSE(second.turn());
  second.listener.line_up();
  CHECK(second.turn());
  CHECK(first.accepted.size() + second.accepted.size() == 2);
}

TEST_CASE("a listener that cannot line up says so, pauses, and can be started again") {
  const int error = GENERATE(ENOMEM, ENOSPC);
  Port port;
  Acceptor acceptor(port);
  port.connect();
  {
    Interposer kernel;
    kernel.poller_add.errors = {error};
    REQUIRE(acceptor.turn());
  }
  CHECK(acceptor.accepted.size() == 1);
  CHECK(acceptor.errors == std::vector<int>{error});
  CHECK(acceptor.listener.is_open());
  port.connect();
  CHECK_FALSE(acceptor.turn());
  REQUIRE(acceptor.listener.start() == 0);
  REQUIRE(acceptor.turn());
  CHECK(acceptor.accepted.size() == 2);
}

TEST_CASE("a listener that finds another file at its number when it lines up is lost") {
  const Port port;
  Acceptor acceptor(port);
  REQUIRE(::dup2(zloop::test::make_pair().ours.get(), port.socket.get()) >= 0);
  acceptor.listener.line_up();
  CHECK(acceptor.listener.lost());
  CHECK(acceptor.errors.empty());
  CHECK(acceptor.listener.start() == -EBADF);
}

}  // namespace
