// Datagrams answered one by one: two system calls for each, and a poll when there is none.
#include <cerrno>
#include <vector>

#include "services.hpp"

namespace bench {

namespace {

void answer(const Service& service, const Descriptor& socket, Bytes datagram, const sockaddr_in& sender) {
  for (std::size_t i = 0; i < service.answers; ++i) {
    ::sendto(socket.get(), datagram.data(), datagram.size(), 0, reinterpret_cast<const sockaddr*>(&sender),
             sizeof sender);
  }
}

}  // namespace

void serve_datagrams(const Service& service, const Descriptor& socket) {
  constexpr std::size_t room_size = std::size_t{64} * 1024;
  std::vector<char> room(room_size);
  std::vector<std::size_t> unanswered(std::size_t{1} << 16U);  // datagrams, by the sender's port
  Epoll epoll;
  epoll.add(socket.get(), EPOLLIN, 0);
  while (true) {
    epoll.wait(std::chrono::seconds{1});
    while (true) {
      sockaddr_in sender{};
      socklen_t size = sizeof sender;
      const ssize_t count =
          ::recvfrom(socket.get(), room.data(), room.size(), 0, reinterpret_cast<sockaddr*>(&sender), &size);
      if (count < 0 && errno == EAGAIN) break;
      if (count < 0) continue;  // an earlier answer's failure
      if (++unanswered[sender.sin_port] < service.burst) continue;
      unanswered[sender.sin_port] = 0;
      answer(service, socket, Bytes(room).first(static_cast<std::size_t>(count)), sender);
    }
  }
}

}  // namespace bench
