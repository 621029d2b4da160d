// A connection as a stream of bytes: plain, or through TLS.
#pragma once

#include <sys/types.h>

#include <cstddef>
#include <memory>
#include <span>
#include <string>

#include "net.hpp"

namespace bench {

using Bytes = std::span<const char>;

// Owns the socket. What fails throws std::runtime_error or one derived from it.
class Channel {
 public:
  static constexpr ssize_t would_block = -1;

  explicit Channel(Descriptor socket) : socket_(std::move(socket)) {}
  virtual ~Channel() = default;
  Channel(const Channel&) = delete;
  Channel& operator=(const Channel&) = delete;

  // The number of bytes moved, or would_block; receiving nothing is the end of the stream.
  virtual ssize_t receive(std::span<char> room) = 0;
  virtual ssize_t send(Bytes bytes) = 0;
  // True if one receive() may leave bytes behind that the socket no longer shows.
  [[nodiscard]] virtual bool holds_back() const { return false; }
  // Tells the peer that nothing more will come, where the protocol has words for it.
  virtual void say_goodbye() {}

  [[nodiscard]] int fd() const noexcept { return socket_.get(); }

 private:
  Descriptor socket_;
};

class PlainChannel final : public Channel {
 public:
  using Channel::Channel;
  ssize_t receive(std::span<char> room) override;
  ssize_t send(Bytes bytes) override;
};

// Makes channels of sockets.
class Transport {
 public:
  Transport() = default;
  virtual ~Transport() = default;
  Transport(const Transport&) = delete;
  Transport& operator=(const Transport&) = delete;
  virtual std::unique_ptr<Channel> open(Descriptor socket) = 0;
};

class PlainTransport final : public Transport {
 public:
  std::unique_ptr<Channel> open(Descriptor socket) override;
};

// TLS from a client that believes every certificate. With `resume`, all but the first connection must resume that one's
// session. Both throw std::runtime_error if this program was built without OpenSSL.
std::unique_ptr<Transport> make_tls_client(bool resume);
std::unique_ptr<Transport> make_tls_server(const std::string& certificate, const std::string& key);

}  // namespace bench
