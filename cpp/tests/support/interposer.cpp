#include "support/interposer.hpp"

#include <algorithm>
#include <cerrno>

namespace zloop::test {

namespace {

Interposer* current = nullptr;  // NOLINT(cppcoreguidelines-avoid-non-const-global-variables): there is one kernel

}  // namespace

Interposer::Interposer() noexcept { current = this; }
Interposer::~Interposer() { current = nullptr; }

bool Interposer::fails(Call Interposer::* which) {
  if (current == nullptr) return false;
  Call& call = current->*which;
  ++call.count;
  int error = call.is_faulty() ? call.fault.error : 0;
  if (!call.errors.empty()) {
    if (error == 0) error = call.errors.front();
    call.errors.pop_front();
  }
  if (error == 0) return false;
  errno = error;
  return true;
}

std::size_t Interposer::allowed(Call Interposer::* which, std::size_t size) noexcept {
  if (current == nullptr) return size;
  const std::size_t most = which == &Interposer::send ? std::min(size, current->send_limit) : size;
  const Call& call = current->*which;
  if (most <= 1 || !call.is_faulty() || call.fault.cut == Cut::none) return most;
  return call.fault.cut == Cut::to_one ? 1 : most / 2;
}

std::vector<iovec> Interposer::first_bytes(const iovec* vectors, std::size_t count) {
  std::size_t left = 0;
  for (std::size_t i = 0; i < count; ++i) left += vectors[i].iov_len;
  left = allowed(&Interposer::send, left);
  std::vector<iovec> first;
  for (std::size_t i = 0; i < count && left > 0; ++i) {
    const std::size_t size = std::min(left, vectors[i].iov_len);
    first.push_back({.iov_base = vectors[i].iov_base, .iov_len = size});
    left -= size;
  }
  return first;
}

bool Interposer::is_pipe(int fd) noexcept {
  return current != nullptr && std::ranges::find(current->pipes, fd) != current->pipes.end();
}

void Interposer::note_wakeup(int fd) noexcept {
  if (current != nullptr) current->wakeup = fd;
}

bool Interposer::is_wakeup(int fd) noexcept { return current != nullptr && fd >= 0 && fd == current->wakeup; }

}  // namespace zloop::test
