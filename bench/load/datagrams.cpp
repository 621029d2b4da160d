// Datagrams there and back: each socket sends some, waits for what answers them, and so on.
#include <cerrno>
#include <stdexcept>
#include <string>
#include <vector>

#include "modes.hpp"

namespace bench {

namespace {

class Sender {
 public:
  Sender(const Options& options, std::string message)
      : options_(options), message_(std::move(message)), socket_(connect_to(*options.server, Blocking::no)) {}

  [[nodiscard]] int fd() const { return socket_.get(); }

  void begin() {
    began_ = Clock::now();
    received_ = 0;
    for (std::size_t i = 0; i < options_.burst; ++i) {
      check(::send(fd(), message_.data(), message_.size(), 0), "send");
    }
  }

  void continue_exchange(std::span<char> room, Meter& meter) {
    ssize_t count = 0;
    while ((count = ::recv(fd(), room.data(), room.size(), 0)) >= 0) {
      if (static_cast<std::size_t>(count) != message_.size()) throw std::runtime_error("a datagram of another size");
      if (++received_ < options_.answers) continue;
      meter.complete(began_, Clock::now(), std::max(options_.burst, options_.answers));
      begin();
      return;
    }
    if (errno != EAGAIN) check(count, "recv");
  }

 private:
  const Options& options_;
  std::string message_;
  Descriptor socket_;
  Clock::time_point began_;
  std::size_t received_ = 0;
};

}  // namespace

void exchange_datagrams(const Options& options) {
  std::vector<Sender> senders;
  Epoll epoll;
  for (std::size_t number = 0; number < options.connections; ++number) {
    senders.emplace_back(options, std::string(options.size, 'd'));
    epoll.add(senders.back().fd(), EPOLLIN, number);
  }
  for (auto& sender : senders) sender.begin();
  constexpr std::size_t room_size = std::size_t{64} * 1024;
  std::vector<char> room(room_size);
  Meter meter(options.server_pid, options.warm_up, options.window);
  while (!meter.over()) {
    for (const auto& event : epoll.wait(meter.until_next_phase())) {
      senders[event.data.u64].continue_exchange(room, meter);
    }
    meter.tick();
  }
  meter.print();
}

}  // namespace bench
