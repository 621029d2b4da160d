// A connection for each request: connect, one message, its answer, close.
#include <memory>
#include <span>
#include <stdexcept>
#include <vector>

#include "modes.hpp"

namespace bench {

namespace {

// A place that is taken by one connection after another.
class Place {
 public:
  Place(const Options& options, const Script& script, const Epoll& epoll, std::uint64_t number)
      : options_(options), script_(script), epoll_(epoll), number_(number) {}

  void connect() {
    static std::uint32_t made = 0;
    began_ = Clock::now();
    channel_ = options_.transport->open(connect_to(*options_.server, Blocking::no, made++));
    sent_ = received_ = 0;
    epoll_.add(channel_->fd(), EPOLLIN | EPOLLOUT | EPOLLET, number_);
  }

  void continue_exchange(std::span<char> room, Meter& meter) {
    while (true) {
      send();
      const ssize_t count = sent_ > 0 || channel_->holds_back() ? channel_->receive(room) : Channel::would_block;
      if (count == Channel::would_block) return;
      if (count == 0) throw std::runtime_error("the server closed the connection");
      received_ += static_cast<std::size_t>(count);
      if (received_ == script_.answer) {
        meter.complete(began_, Clock::now());
        channel_->say_goodbye();
        connect();
        return;
      }
    }
  }

 private:
  void send() {
    while (sent_ < script_.request.size()) {
      const ssize_t count = channel_->send(Bytes(script_.request).subspan(sent_));
      if (count == Channel::would_block) return;
      sent_ += static_cast<std::size_t>(count);
    }
  }

  const Options& options_;
  const Script& script_;
  const Epoll& epoll_;
  std::uint64_t number_;
  std::unique_ptr<Channel> channel_;
  Clock::time_point began_;
  std::size_t sent_ = 0;
  std::size_t received_ = 0;
};

}  // namespace

void churn(const Options& options) {
  const Script script = probe(options);
  Epoll epoll;
  std::vector<Place> places;
  for (std::size_t number = 0; number < options.connections; ++number) {
    places.emplace_back(options, script, epoll, number);
    places.back().connect();
  }
  constexpr std::size_t room_size = std::size_t{64} * 1024;
  std::vector<char> room(room_size);
  Meter meter(options.server_pid, options.warm_up, options.window);
  while (!meter.over()) {
    for (const auto& event : epoll.wait(meter.until_next_phase())) {
      places[event.data.u64].continue_exchange(room, meter);
    }
    meter.tick();
  }
  meter.print();
}

}  // namespace bench
