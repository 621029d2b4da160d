// Descriptors, addresses and epoll, for the load generator and the limit server. What fails throws std::system_error.
#pragma once

#include <netinet/in.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

namespace bench {

using Clock = std::chrono::steady_clock;

// `result` if it is no failure; else errno is thrown, with `action` to say what failed.
template <typename Integer>
Integer check(Integer result, const char* action);

// Owns a descriptor.
class Descriptor {
 public:
  Descriptor() = default;
  explicit Descriptor(int fd) noexcept : fd_(fd) {}
  ~Descriptor();
  Descriptor(Descriptor&& other) noexcept;
  Descriptor& operator=(Descriptor&& other) noexcept;
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;

  [[nodiscard]] int get() const noexcept { return fd_; }

 private:
  int fd_ = -1;
};

// Where a server is: "tcp:PORT" and "udp:PORT" on the loopback interface, or "unix:PATH". Port 0 takes a free one.
class Address {
 public:
  // Throws std::invalid_argument for any other text.
  explicit Address(const std::string& text);

  [[nodiscard]] int family() const noexcept { return storage_.ss_family; }
  [[nodiscard]] bool is_datagram() const noexcept { return datagram_; }
  [[nodiscard]] const sockaddr* get() const noexcept { return reinterpret_cast<const sockaddr*>(&storage_); }
  [[nodiscard]] socklen_t size() const noexcept { return size_; }

 private:
  sockaddr_storage storage_{};
  socklen_t size_ = 0;
  bool datagram_ = false;
};

enum class Blocking : bool { no, yes };

// A socket bound to the address, and listening if it is a stream's; it never blocks.
Descriptor bind_to(const Address& address);
// A connected socket, without Nagle's delay where there is one; a blocking one gives up after some seconds. Connections
// to TCP come from 127.0.0.2 and up by `number`, so that however many are made in a short time, no pair of addresses
// runs out of ports.
Descriptor connect_to(const Address& address, Blocking blocking, std::uint32_t number = 0);
// The port that a socket is bound to; 0 for a unix socket.
int port_of(const Descriptor& socket);
// Allows as many open descriptors as the system lets this process have.
void raise_descriptor_limit();
// Keeps this process on one core; a negative number leaves it free.
void pin_to_core(int core);

// Owns an epoll instance; knows watched descriptors by a number of the caller's.
class Epoll {
 public:
  Epoll();
  void add(int fd, std::uint32_t events, std::uint64_t number) const;
  void change(int fd, std::uint32_t events, std::uint64_t number) const;
  // What is ready after at most `timeout`: valid until the next call.
  std::span<const epoll_event> wait(std::chrono::milliseconds timeout);

 private:
  Descriptor fd_;
  std::array<epoll_event, 256> ready_{};
};

}  // namespace bench
