// As many bytes as go through, in one direction.
#include <stdexcept>
#include <vector>

#include "modes.hpp"

namespace bench {

namespace {

constexpr std::size_t request_size = std::size_t{64} * 1024;

using Step = ssize_t (*)(Channel&, std::span<char>);

ssize_t send_piece(Channel& channel, std::span<char> room) { return channel.send(room.first(request_size)); }

ssize_t receive_piece(Channel& channel, std::span<char> room) {
  const ssize_t count = channel.receive(room);
  if (count == 0) throw std::runtime_error("the server closed the connection");
  return count;
}

void move_bytes(const Options& options, std::uint32_t readiness, Step step) {
  std::vector<std::unique_ptr<Channel>> channels;
  Epoll epoll;
  for (std::size_t number = 0; number < options.connections; ++number) {
    auto socket = connect_to(*options.server, Blocking::no, static_cast<std::uint32_t>(number));
    channels.push_back(options.transport->open(std::move(socket)));
    epoll.add(channels.back()->fd(), readiness, number);
  }
  std::vector<char> room(4 * request_size, 'b');
  Meter meter(options.server_pid, options.warm_up, options.window);
  while (!meter.over()) {
    for (const auto& event : epoll.wait(meter.until_next_phase())) {
      const ssize_t count = step(*channels[event.data.u64], room);
      if (count > 0) meter.move(static_cast<std::uint64_t>(count));
    }
    meter.tick();
  }
  meter.print(request_size);
}

}  // namespace

void send_in_bulk(const Options& options) { move_bytes(options, EPOLLOUT, send_piece); }

void receive_in_bulk(const Options& options) { move_bytes(options, EPOLLIN, receive_piece); }

}  // namespace bench
