#include "channel.hpp"

#include <sys/socket.h>

#include <cerrno>
#include <system_error>

namespace bench {

namespace {

ssize_t moved(ssize_t result, const char* action) {
  if (result >= 0) return result;
  if (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR) return Channel::would_block;
  throw std::system_error(errno, std::generic_category(), action);
}

}  // namespace

ssize_t PlainChannel::receive(std::span<char> room) { return moved(::recv(fd(), room.data(), room.size(), 0), "recv"); }

ssize_t PlainChannel::send(Bytes bytes) {
  return moved(::send(fd(), bytes.data(), bytes.size(), MSG_NOSIGNAL), "send");
}

std::unique_ptr<Channel> PlainTransport::open(Descriptor socket) {
  return std::make_unique<PlainChannel>(std::move(socket));
}

}  // namespace bench
