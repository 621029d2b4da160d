// Connections served by one thread and one epoll instance, with two system calls for a request that fits into one.
#include <sys/mman.h>
#include <sys/sendfile.h>

#include <netinet/tcp.h>
#include <unistd.h>
#include <algorithm>
#include <cerrno>
#include <stdexcept>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "services.hpp"

namespace bench {

namespace {

constexpr std::size_t receive_size = std::size_t{256} * 1024;
constexpr std::size_t source_size = std::size_t{64} * 1024;
constexpr std::string_view http_answer =
    "HTTP/1.1 200 OK\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: 13\r\n\r\nHello, world!";

class Server {
 public:
  Server(const Service& service, const Descriptor& listener) : service_(service), listener_(listener) {
    epoll_.add(listener.get(), EPOLLIN, listener_number);
    if (service.kind == Kind::answer) answer_.assign(service.answer, 'a');
    if (service.kind == Kind::http) answer_ = http_answer;
    if (service.kind == Kind::source) answer_.assign(source_size, 's');
    if (service.kind == Kind::file) {
      file_ = Descriptor(check(::memfd_create("answer", MFD_CLOEXEC), "memfd_create"));
      check(::ftruncate(file_.get(), static_cast<off_t>(service.answer)), "ftruncate");
    }
  }

  [[noreturn]] void run() {
    while (true) {
      for (const auto& event : epoll_.wait(std::chrono::seconds{1})) {
        if (event.data.u64 == listener_number) {
          accept();
        } else {
          attend(static_cast<int>(event.data.u64), event.events);
        }
      }
    }
  }

 private:
  static constexpr std::uint64_t listener_number = ~std::uint64_t{0};

  struct Client {
    std::unique_ptr<Channel> channel;
    std::string unsent;
    std::size_t received = 0;     // of the request that is not complete yet
    std::size_t file_unsent = 0;  // bytes of the file still to go, at its end
    bool wants_room = false;      // is watched for writability
  };

  void accept() {
    const int fd = ::accept4(listener_.get(), nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (fd < 0) return;
    const int on = 1;
    ::setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);  // fails for a unix socket, which needs none
    Client& client = clients_[fd];
    client.channel = service_.transport->open(Descriptor(fd));
    epoll_.add(fd, EPOLLIN, static_cast<std::uint64_t>(fd));
    if (service_.kind == Kind::source) attend(fd, EPOLLOUT);  // a client that has gone already takes only itself
  }

  void attend(int fd, std::uint32_t events) {
    const auto found = clients_.find(fd);
    if (found == clients_.end()) return;
    bool is_there = false;
    try {
      is_there = serve(found->second, events);
    } catch (const std::runtime_error&) {
      is_there = false;  // in whatever way it has gone
    }
    if (!is_there) clients_.erase(found);
  }

  // False once the client has no more to say.
  bool serve(Client& client, std::uint32_t events) {
    if ((events & EPOLLOUT) != 0) resume(client);
    if ((events & ~static_cast<std::uint32_t>(EPOLLOUT)) == 0 || receive(client)) return true;
    client.channel->say_goodbye();
    return false;
  }

  // False at the end of the stream. Reads once, or until TLS holds nothing back.
  bool receive(Client& client) {
    for (bool is_more = true; is_more; is_more = client.channel->holds_back()) {
      const ssize_t count = client.channel->receive(room_);
      if (count == Channel::would_block) return true;
      if (count == 0) return false;
      respond(client, Bytes(room_).first(static_cast<std::size_t>(count)));
    }
    return true;
  }

  void respond(Client& client, Bytes bytes) {
    switch (service_.kind) {
      case Kind::echo:
        send(client, bytes);
        return;
      case Kind::http:  // a request arrives whole, and ends with an empty line
        if (std::string_view(bytes.data(), bytes.size()).ends_with("\r\n\r\n")) send(client, answer_);
        return;
      case Kind::answer:
      case Kind::file:
        client.received += bytes.size();
        for (; client.received >= service_.size; client.received -= service_.size) {
          if (service_.kind == Kind::answer) {
            send(client, answer_);
          } else {
            client.file_unsent += service_.answer;
            send_file(client);
          }
        }
        return;
      case Kind::sink:
      case Kind::source:
      case Kind::datagrams:
        return;
    }
  }

  void send(Client& client, Bytes bytes) {
    if (client.unsent.empty()) bytes = bytes.subspan(send_some(client, bytes));
    if (bytes.empty()) return;
    client.unsent.append(bytes.data(), bytes.size());
    watch_for_room(client, true);
  }

  static std::size_t send_some(Client& client, Bytes bytes) {
    std::size_t sent = 0;
    while (sent < bytes.size()) {
      const ssize_t count = client.channel->send(bytes.subspan(sent));
      if (count == Channel::would_block) break;
      sent += static_cast<std::size_t>(count);
    }
    return sent;
  }

  void send_file(Client& client) {
    while (client.file_unsent > 0) {
      auto offset = static_cast<off_t>((service_.answer - (client.file_unsent % service_.answer)) % service_.answer);
      const auto left = std::min(client.file_unsent, service_.answer - static_cast<std::size_t>(offset));
      const ssize_t count = ::sendfile(client.channel->fd(), file_.get(), &offset, left);
      if (count < 0 && errno == EAGAIN) {
        watch_for_room(client, true);
        return;
      }
      client.file_unsent -= static_cast<std::size_t>(check(count, "sendfile"));
    }
    watch_for_room(client, false);
  }

  void fill(Client& client) {
    while (client.unsent.empty()) send(client, answer_);
  }

  void resume(Client& client) {
    if (service_.kind == Kind::file) {
      send_file(client);
      return;
    }
    client.unsent.erase(0, send_some(client, client.unsent));
    if (!client.unsent.empty()) return;
    if (service_.kind == Kind::source) {
      fill(client);
    } else {
      watch_for_room(client, false);
    }
  }

  void watch_for_room(Client& client, bool wanted) {
    if (client.wants_room == wanted) return;
    client.wants_room = wanted;
    const int fd = client.channel->fd();
    epoll_.change(fd, wanted ? EPOLLIN | EPOLLOUT : EPOLLIN, static_cast<std::uint64_t>(fd));
  }

  const Service& service_;
  const Descriptor& listener_;
  Epoll epoll_;
  std::unordered_map<int, Client> clients_;
  std::vector<char> room_ = std::vector<char>(receive_size);
  std::string answer_;
  Descriptor file_;
};

}  // namespace

void serve_streams(const Service& service, const Descriptor& listener) { Server(service, listener).run(); }

}  // namespace bench
