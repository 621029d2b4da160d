#include "support/interposer.hpp"

#include <algorithm>
#include <cerrno>

namespace zloop::test {

namespace {

Interposer* current = nullptr;  // NOLINT(cppcoreguidelines-avoid-non-const-global-variables): as there is one kernel

}  // namespace

Interposer::Interposer() noexcept { current = this; }
Interposer::~Interposer() { current = nullptr; }

bool Interposer::fails(Call Interposer::* which) {
  if (current == nullptr) return false;
  Call& call = current->*which;
  ++call.count;
  if (call.errors.empty()) return false;
  errno = call.errors.front();
  call.errors.pop_front();
  return true;
}

std::size_t Interposer::limit() noexcept {
  return current == nullptr ? std::numeric_limits<std::size_t>::max() : current->send_limit;
}

std::vector<iovec> Interposer::first_bytes(const msghdr& message) {
  std::vector<iovec> vectors;
  std::size_t left = limit();
  const auto count = static_cast<std::size_t>(message.msg_iovlen);
  for (std::size_t i = 0; i < count && left > 0; ++i) {
    const std::size_t size = std::min(left, message.msg_iov[i].iov_len);
    vectors.push_back({.iov_base = message.msg_iov[i].iov_base, .iov_len = size});
    left -= size;
  }
  return vectors;
}

}  // namespace zloop::test
